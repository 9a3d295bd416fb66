"""Read some files and write one new file, in threads: the least that a merge of them can take.

    python -S -E benchmarks/merge/copying.py --threads 2 --fsync INPUT INPUT ... NEW

Pieces are read by position into buffers that are used again, those of the first file are written
by position into room that was reserved. Inputs are all read to the end, the new file is as long as
the first. Nothing is imported, so that starting costs next to nothing.
"""

import os
import sys
import threading

PIECE = 1 << 20


def copy(inputs: list[str], output: str, threads: int, durable: bool) -> None:
    """Read all *inputs*, write the first to *output*."""
    readers = [os.open(path, os.O_RDONLY) for path in inputs]
    sizes = [os.fstat(reader).st_size for reader in readers]
    writer = os.open(output, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    os.posix_fallocate(writer, 0, sizes[0])

    def work(number: int) -> None:
        buffers = [memoryview(bytearray(PIECE)) for _ in readers]
        for start in range(number * PIECE, max(sizes), threads * PIECE):
            counts = [
                os.preadv(reader, [buffer], start)
                for reader, buffer in zip(readers, buffers, strict=True)
            ]
            if counts[0]:
                os.pwrite(writer, buffers[0][: counts[0]], start)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if durable:
        os.fsync(writer)


def main() -> None:
    """Read the command line; argparse would cost more than it saves."""
    arguments = sys.argv[1:]
    threads = 1
    durable = "--fsync" in arguments
    if durable:
        arguments.remove("--fsync")
    if arguments[:1] == ["--threads"]:
        threads, arguments = int(arguments[1]), arguments[2:]
    *inputs, output = arguments
    copy(inputs, output, threads, durable)


if __name__ == "__main__":
    main()
