"""ptft trains models in stages: pretrain on plenty of data, fine-tune on a little, evaluate, use."""

import time

__version__ = "0.1.0"
STARTED = time.monotonic()  # when this process began, as far as it concerns us
