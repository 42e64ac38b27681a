"""What device and server say about an update: report states, codes, the provisioned file, the patch stream."""

# States of an update report: release sequence, state, code
ACCEPTED = 1  # the command was taken
VERIFIED = 2  # the manifest is signed by enough keys and is for this device
FETCHED = 3  # the image or patch lies on the device
INSTALLED = 4  # written, read back, digest right; the next boot tries it
STARTED = 5  # the new code runs, on trial
CONFIRMED = 6  # it is healthy and stays
ROLLED_BACK = 7  # it was not; the code before runs
REFUSED = 8  # for good: nothing was taken over
FAILED = 9  # this attempt; there will be another
GAVE_UP = 10  # after too many attempts
TRUSTED = 11  # a new trust list holds; its version in place of the sequence

# Codes. Numbers are never reused.
OK = 0
# the manifest
MALFORMED = 1  # no deterministic CBOR, or not of the manifest's shape
UNSUPPORTED = 2  # well-formed, and outside the subset
WRONG_VENDOR = 3
WRONG_CLASS = 4
WRONG_COMPONENT = 5
OLD_SEQUENCE = 6  # not above the highest confirmed one
TOO_LARGE = 7  # the image does not fit its slot
MANIFEST_DIGEST = 8  # the signed digest is not this manifest's
TOO_FEW_SIGNATURES = 9  # of different release keys of the trust list
NOT_ORDERED = 10  # signed, but not what the command asked for
TRUST_EXPIRED = 11
# a trust list
TRUST_MALFORMED = 16
TRUST_VERSION = 17  # not the one that follows
TRUST_SIGNATURES = 18  # too few root keys, of the old list or of its own
TRUST_MISSING = 19  # the device has none
# the way
HOST_REFUSED = 32  # not a provisioned host, or no URL that may be fetched
NO_LINK = 33
UNREACHABLE = 34
HTTP_STATUS = 35
HTTP_MALFORMED = 36
TOO_LONG = 37
TOO_SLOW = 38
TIME_OUT = 39
TLS_REFUSED = 40
# the image
BAD_STREAM = 48  # no deflate, or cut short
WRONG_BASE = 49  # the patch is for another image
PATCH_OUTSIDE = 50  # it reads or writes outside the image
PATH_REFUSED = 51  # absolute, `..`, or otherwise not a name for a slot
ENTRY_REFUSED = 52  # a link, a folder, or a header that is not as the image format has it
ORDER_REFUSED = 53  # a duplicate, or names that are not sorted
TOO_MANY_FILES = 54
IMAGE_DIGEST = 55  # what was written and read back is not what was signed
FLASH_FAILED = 56
FIRMWARE_REFUSED = 57  # the chip does not take it for a firmware image
# the trial
TRIAL_FAILED = 64  # it raised, hung or could not be imported, too often
SLOT_CORRUPT = 65  # its files are not what was installed
UNHEALTHY = 66  # no sensor or no server answered in time (not told apart from 64 yet)
INTERNAL = 80  # our own code raised

# Limits
ENVELOPE_MAX = 4096  # bytes
TRUST_MAX = 4096  # bytes
TRUST_KEYS_MAX = 16  # of each kind
SIGNATURES_MAX = 16
URL_MAX = 160  # characters
FILES_MAX = 128  # in an image
NAME_MAX = 64  # characters of a file's name in an image, folders included
DEPTH_MAX = 6  # folders and file
TAR_RECORD_LEN = 10240  # an image's length is a multiple of it
WINDOW_BITS = 10  # of raw deflate, for full images and patches

# Delivery, beside the manifest
FULL_NAME = "%s/full.deflate"  # image digest in hex; of firmware: sections, see BLOCK_LEN
PATCH_NAME = "%s/from-%s.patch"  # image digest, running digest, both in hex
TRUST_NAME = "trust/%d.cbor"  # version
BLOCK_LEN = 4096  # a firmware comes as deflate streams, one behind the other; each but the last gives a multiple of it

# A patch, within deflate: magic, SHA-256 of the base, length of the image; then, until that length is reached,
# three numbers and two runs: copy the first run of the base XOR the patch's bytes, then the second as it stands,
# then move in the base by `seek`. Numbers: LEB128; seek: zigzag.
PATCH_MAGIC = b"SBP1"
PATCH_HEAD = ">4s32sI"

# The provisioned file: a CBOR map
PROVISION_VENDOR = 1  # UUID, 16 bytes
PROVISION_CLASS = 2  # UUID, 16 bytes
PROVISION_ORIGINS = 3  # [text]: scheme://host:port of each server that images may be fetched from
PROVISION_WIFI = 4  # [ssid, key]
PROVISION_CA = 5  # certificate in DER that the servers' must be signed by
PROVISION_BROKER = 6  # [host, port] of the MQTT broker, whose certificate that CA signed
PROVISION_CELLULAR = 7  # [apn, pin or "", user or "", password or ""]
