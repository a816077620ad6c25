#!/usr/bin/env python3
"""Writes headers/*.npy and headers.json: headers as NumPy writes them, without the values.

    make_headers.py        needs numpy; writes beside itself

headers.json says of each what numpy.lib.format reads from it: descr, fortran_order, shape, and
the offset of the first value. The last few are not NumPy's own writing but forms its reader takes
(other quotes and order, the long integers of Python 2), checked here by reading them with it.
"""
import io, json, pathlib, struct, warnings
import numpy as np
try:
    from numpy.lib import _format_impl as npy       # NumPy 2.3 and later
except ImportError:
    from numpy.lib import format as npy

HERE = pathlib.Path(__file__).parent
OUT = HERE / "headers"
OUT.mkdir(exist_ok=True)
for old in OUT.glob("*.npy"):
    old.unlink()
expected = {}


def keep(name, header):
    """Writes a header and what NumPy reads from it."""
    f = io.BytesIO(header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version = npy.read_magic(f)
        shape, fortran, dtype = npy._read_array_header(f, version=version)
    (OUT / f"{name}.npy").write_bytes(header)
    expected[name] = {"descr": npy.dtype_to_descr(dtype), "fortran": fortran, "shape": list(shape), "offset": f.tell()}


def written(name, dtype, shape, version=None, order="C"):
    f = io.BytesIO()
    # Broadcasting makes a large shape of one value; only the header is written.
    array = np.broadcast_to(np.zeros((), dtype), shape)
    header = npy.header_data_from_array_1_0(array)
    header["fortran_order"] = order == "F"
    npy._write_array_header(f, header, version)
    keep(name, f.getvalue())


def literal(name, text, version=(1, 0)):
    data = text.encode("latin1") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(data))
    keep(name, b"\x93NUMPY" + bytes(version) + length + data)


written("embeddings", "i1", (1113, 688, 128))
written("scales", "<f4", (1113, 688))
written("scales3d", "<f4", (1113, 688, 128))
written("v2", "i1", (7, 5, 128), version=(2, 0))
written("v3", "<f4", (7, 5), version=(3, 0))
written("fortran", "i1", (7, 5, 128), order="F")
written("scalar", "<f4", ())
written("vector", "<f4", (5,))
written("empty", "i1", (0, 5, 128))
written("bigendian", ">f4", (7, 5))
written("float64", "<f8", (7, 5))
written("int16", "<i2", (7, 5))
written("bool", "?", (7, 5))
written("bytes12", "S12", (7,))
written("datetime", "M8[ns]", (7,))
written("structure", [("a", "i1"), ("b", "<f4", (2,))], (7,))
written("object", "O", (7,))
literal("order", '{"shape": (7, 5), "descr": "<f4", "fortran_order": False}')
literal("compact", "{'descr':'i1','fortran_order':False,'shape':(7,5,),}")
literal("byte", "{'descr': 'b', 'fortran_order': False, 'shape': (7,), }")
literal("python2", "{'descr': '|i1', 'fortran_order': False, 'shape': (7L, 5L, 128L), }")
literal("python2_v2", "{'descr': '|i1', 'fortran_order': False, 'shape': (7L,), }", version=(2, 0))

(HERE / "headers.json").write_text(json.dumps(expected, indent=1) + "\n")
print(len(expected), "headers, numpy", np.__version__)
