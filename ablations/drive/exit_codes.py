"""What the console command's exit code says: one table for all commands. Imports nothing.

| code | says |
|---|---|
| 0 | all that was asked for is done; after `run --no-wait`: all of it is submitted |
| 1 | it ended, and something is not done: a run failed, is lost, cancelled or still waits; a folder was refused |
| 2 | what was given cannot be used, or another process holds it: one sentence says what, nothing was half done |
| 130 | interrupted; what has finished is kept |
| 141 | the reader of the output (`head`, `less`) has gone |

A program that ends by a signal has the shell's code for it, 128 and the signal's number. Code 1 also stands for an
error that nobody foresaw: it is named, and `--debug` shows where.
"""

DONE = 0
UNFINISHED = 1
REFUSED = 2
INTERRUPTED = 130
READER_GONE = 141
