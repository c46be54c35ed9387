"""Generation: from a released prompt to a draft, through a model server without network.

Rules kept here:

* A prompt reaches a model only inside a `ReleasedPrompt`, and only through `client`, the one module that
  opens a socket.
* The model server is reached through a Unix socket and runs without any network (`confinement`), or it does not run.
* Neither a prompt nor an answer is written to a log, an exception or a file.
* Which weights, which adapter and which template answered is part of every result, as SHA-256.
"""
