"""File formats of pictures: raw ones to read, and what decoders do not tell of the others."""
