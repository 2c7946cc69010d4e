-- Brackets in a prompt weigh what is in them. In the prompts that there are they meant nothing, and go on to.

UPDATE jobs SET
    prompt = replace(replace(replace(replace(replace(prompt, '\', '\\'), '(', '\('), ')', '\)'), '[', '\['), ']', '\]'),
    negative = replace(replace(replace(replace(replace(negative, '\', '\\'), '(', '\('), ')', '\)'), '[', '\['), ']', '\]');
