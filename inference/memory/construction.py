"""Networks are built one at a time.

While they build one without memory, diffusers, transformers and accelerate replace methods of torch's modules, for the
whole process. Two threads that do so at once put back each other's replacements, and networks after that are broken.
"""

from __future__ import annotations

import threading

ONE_AT_A_TIME = threading.Lock()
