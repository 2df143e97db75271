"""A process that encrypts one vector of counters to each auditor's key, and ends: Pyfhel stays in no sidecar's memory.

The job is read from standard input, the answer written to standard output: see `job`.
"""

import os
import resource
import sys

import msgspec
import numpy as np

from modelward.audit.aggregate import public_key
from modelward.audit.job import Done, Job
from modelward.audit.parameters import PARAMETERS
from modelward.encrypted.context import Encryptor
from modelward.encrypted.parameters import EncryptedError

MEMORY = 512 << 20


def main() -> None:
    """Do one job, after whatever else there is to do: requests must not wait for it."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no counter may end on a disk
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    counts = np.array(job.counts, dtype=np.int64)
    try:
        done = Done([Encryptor(PARAMETERS, public_key(keys)).encrypt_integers(counts) for keys in job.keys])
    except EncryptedError as error:
        done = Done(why=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(done))


if __name__ == "__main__":
    main()
