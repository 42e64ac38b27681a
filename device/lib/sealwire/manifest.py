"""Update metadata: the numbers of the SUIT manifest subset (draft-ietf-suit-manifest-37) and of the trust list."""

TAG_ENVELOPE = 107
TAG_SIGN1 = 18
ALG_SHA256 = -16
ALG_ESP256 = -9  # written
ALG_ES256 = -7  # accepted too

# Envelope
AUTHENTICATION = 2
MANIFEST = 3

# Manifest
VERSION = 1
SEQUENCE = 2
COMMON = 3
VALIDATE = 7
INSTALL = 20
TEXT = 23

# Common
COMPONENTS = 2
SHARED_SEQUENCE = 4

# Commands
CONDITION_VENDOR = 1
CONDITION_CLASS = 2
CONDITION_IMAGE_MATCH = 3
OVERRIDE_PARAMETERS = 20
FETCH = 21
REPORT_ALL = 15

# Parameters
PARAM_VENDOR = 1
PARAM_CLASS = 2
PARAM_DIGEST = 3
PARAM_SIZE = 14
PARAM_URI = 21

COMPONENT_APP = b"app"
COMPONENT_FW = b"fw"
KID_LEN = 8

# Trust list: keys of its payload
LIST_VERSION = 1
LIST_THRESHOLD = 2
LIST_RELEASE_KEYS = 3
LIST_ROOT_THRESHOLD = 4
LIST_ROOT_KEYS = 5
LIST_EXPIRES = 6

UUID_LEN = 16
DIGEST_LEN = 32
KEY_LEN = 64  # x, y
NUMBER_MAX = 0xFFFFFFFF  # sequences, sizes, versions and times
