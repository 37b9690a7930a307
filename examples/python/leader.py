"""A leader in twenty lines of Python: it counts while it leads, and resumes from the checkpoint.

Shows    electctl.connect, campaign, remaining, the guarded checkpoint, and what can go wrong.
Run      ELECTCTL_BACKEND=redis://127.0.0.1:6379/0 python3 leader.py      in two terminals; Ctrl-C
         gives the leadership back.
Does not protect from
         what your process does after its lease: no guardian kills it, as one does under `electctl
         campaign`. Ask remaining() before each step, keep steps shorter than what you ask for, and
         give leadership.token to whatever you write to (../postgresql).
"""

import os
import time

import electctl
from electctl.errors import LeadershipLost, OutcomeUnknown, Unreachable

with electctl.connect(os.environ["ELECTCTL_BACKEND"]) as elector:
    while True:
        try:
            with elector.campaign("counter", ttl=3.0) as leadership:
                count = int(leadership.checkpoint.get() or 0)
                print(f"token {leadership.token} leads from {count}", flush=True)
                while leadership.remaining() > 1.0 and not leadership.stop_requested.is_set():
                    count += 1
                    leadership.checkpoint.set(str(count).encode())
                    time.sleep(0.1)  # the work
        except (LeadershipLost, OutcomeUnknown, Unreachable) as error:
            print(f"no longer leading: {error}", flush=True)
            time.sleep(1.0)  # no more than one try a second while the store is away
