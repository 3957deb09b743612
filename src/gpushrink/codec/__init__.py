"""The codecs of data blocks: samples or bytes in, bytes out."""
