"""Files to arrays and back: pictures, masks, and which mask belongs to which picture."""

from retouch.pictures.conversion import from_array, from_pil, to_pil
from retouch.pictures.files import Pairing, find, pair
from retouch.pictures.formats import EXTENSIONS
from retouch.pictures.masks import as_mask, mask_from_alpha, read_mask
from retouch.pictures.picture import Metadata, Picture, PictureError
from retouch.pictures.reading import read
from retouch.pictures.source import MAX_PIXELS
from retouch.pictures.writing import write

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "Metadata",
    "Pairing",
    "Picture",
    "PictureError",
    "as_mask",
    "find",
    "from_array",
    "from_pil",
    "mask_from_alpha",
    "pair",
    "read",
    "read_mask",
    "to_pil",
    "write",
]
