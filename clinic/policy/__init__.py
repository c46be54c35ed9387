"""Policy: may this prompt be sent, under which obligations, and the one gate through which it is released."""
