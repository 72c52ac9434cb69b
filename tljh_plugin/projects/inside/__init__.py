"""What runs inside containers while a project is filled: handed to their Python as text, never imported.

`send.py` runs in the untrusted image and can only write into a pipe; `receive.py` runs in our base image,
trusts nothing that comes out of that pipe, and is the only one that writes into the project's folder;
`empty.py` removes what a broken-off fill has left. Standard library only; Python 3.7 for `send.py`.

The pipe carries `MAGIC`, then records of one letter each. Numbers are big-endian; a text is a 2-byte length
and as many bytes.

    D path mode:u32 mtime:i64                      a folder, before what is in it
    F path mode:u32 mtime:i64 size:u64 chunks      a file; chunk: offset:u64 length:u32 data; length 0 ends it
    L path target                                  a symbolic link
    H path earlier-path                            a further name of a file that was sent
    S path reason                                  something that was not sent
    E                                              the end

Paths are relative to the home; times are nanoseconds.
"""
