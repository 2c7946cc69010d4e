"""Networks are built one at a time.

While building one without memory, diffusers, transformers and accelerate patch methods of torch's modules for the whole
process. Two threads doing so at once would restore each other's patches and break every network built afterwards.
"""

from __future__ import annotations

import threading

ONE_AT_A_TIME = threading.Lock()
