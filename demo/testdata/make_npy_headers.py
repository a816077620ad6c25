#!/usr/bin/env python3
"""Write npy_headers.txt: dtype, shape and, in hexadecimal, the header numpy.save writes for it."""
import io, pathlib
import numpy as np

SHAPES = [("|i1", (1, 1, 128)), ("|i1", (1116, 126, 128)), ("|i1", (1113, 688, 128)), ("<f4", (1116, 126)), ("<f4", (9, 7))]

with open(pathlib.Path(__file__).with_name("npy_headers.txt"), "w") as out:
    for dtype, shape in SHAPES:
        f = io.BytesIO()
        a = np.zeros(shape, dtype)
        np.save(f, a)
        header = f.getvalue()[:-a.nbytes]
        print(dtype, "x".join(map(str, shape)), header.hex(), file=out)
