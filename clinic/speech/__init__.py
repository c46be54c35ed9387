"""From sound to words: confined decoding, transcription with guards, encrypted upload spool, subtitles.

* Untrusted audio is decoded in a confined child process (`decode`), never in a process that holds keys or records.
* What the recogniser may have invented is dropped before anybody reads it (`guards`).
* No sound and no word touches the disk in the clear (`spool`).
"""
