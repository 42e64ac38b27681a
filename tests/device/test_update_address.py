# URLs: the one form that is taken, the tricks that are not, and references that stay in their folder.
from sealband.update import address
from sealband.update.refused import UpdateRefused
from sealwire import update as wire

PROVISIONED = ["http://10.0.0.1:8000", "https://updates.example", "https://cdn.updates.example:8443"]

TAKEN = (
    ("http://10.0.0.1:8000/manifest.suit", ("http", "10.0.0.1", 8000, "/manifest.suit")),
    ("https://updates.example/w/2/manifest.suit", ("https", "updates.example", 443, "/w/2/manifest.suit")),
    ("https://updates.example:443/a", ("https", "updates.example", 443, "/a")),
    ("https://cdn.updates.example:8443/A-b_c~d.e", ("https", "cdn.updates.example", 8443, "/A-b_c~d.e")),
    ("https://updates.example/..a/b../...", ("https", "updates.example", 443, "/..a/b../...")),
)

# each of them leads, for some reader of URLs, to a provisioned host, or is no URL of ours at all
TRICKS = (
    # user information, and what looks like it
    "http://10.0.0.1:8000@evil.example/x",
    "http://evil.example@10.0.0.1:8000/x",
    "http://user:secret@10.0.0.1:8000/x",
    "http://@10.0.0.1:8000/x",
    "https://updates.example%40evil.example/x",
    "https://updates.example@/x",
    "https://updates.example:443@evil.example/x",
    "https://updates.example\\@evil.example/x",
    # query and fragment before a host
    "https://evil.example?@updates.example/x",
    "https://evil.example#@updates.example/x",
    "https://updates.example?x/y",
    "https://updates.example#x/y",
    "https://updates.example/x?y",
    "https://updates.example/x#y",
    "https://updates.example/x;y",
    # backslashes
    "https:\\\\updates.example/x",
    "https:/\\updates.example/x",
    "https://updates.example\\x",
    "https://updates.example/\\evil.example",
    "https://evil.example\\.updates.example/x",
    # another host that begins or ends as a provisioned one
    "https://updates.example.evil.example/x",
    "https://evil-updates.example/x",
    "https://evil.updates.example/x",
    "https://pdates.example/x",
    "https://updates.exampl/x",
    "https://example/x",
    # another scheme, another port
    "http://updates.example/x",
    "http://updates.example:443/x",
    "https://10.0.0.1:8000/x",
    "https://updates.example:8443/x",
    "https://cdn.updates.example/x",
    "http://10.0.0.1/x",
    "http://10.0.0.1:80/x",
    "http://10.0.0.1:8001/x",
    # ports that are read differently
    "http://10.0.0.1:08000/x",
    "http://10.0.0.1:008000/x",
    "http://10.0.0.1:+8000/x",
    "http://10.0.0.1:8000 /x",
    "http://10.0.0.1:8_000/x",
    "http://10.0.0.1:0x1f40/x",
    "http://10.0.0.1:73536/x",
    "http://10.0.0.1:65536/x",
    "http://10.0.0.1:0/x",
    "http://10.0.0.1:-1/x",
    "http://10.0.0.1:/x",
    "https://updates.example:/x",
    "http://10.0.0.1:8000:80/x",
    "http://10.0.0.1::8000/x",
    "http://:8000/x",
    # the same address, written otherwise
    "http://167772161:8000/x",
    "http://0x0a000001:8000/x",
    "http://0xa.0.0.1:8000/x",
    "http://012.0.0.1:8000/x",
    "http://10.0.0.01:8000/x",
    "http://10.0.0.0x1:8000/x",
    "http://10.1:8000/x",
    "http://10.0.1:8000/x",
    "http://10.0.0.1.:8000/x",
    "http://10.0.0.0.1:8000/x",
    "http://10.0.0.257:8000/x",
    "http://10.0.0.-1:8000/x",
    "http://10..0.1:8000/x",
    "http://[::ffff:10.0.0.1]:8000/x",
    "http://[::ffff:a00:1]:8000/x",
    "http://[10.0.0.1]:8000/x",
    "http://::ffff:10.0.0.1:8000/x",
    "http://10.0.0.1.nip.io:8000/x",
    # the device itself, and what is near it
    "http://127.0.0.1:8000/x",
    "http://localhost:8000/x",
    "http://0.0.0.0:8000/x",
    "http://0:8000/x",
    "http://127.1:8000/x",
    "http://2130706433:8000/x",
    "http://0x7f.1:8000/x",
    "http://0177.0.0.1:8000/x",
    "http://[::1]:8000/x",
    "http://169.254.169.254/latest/meta-data",
    # upper case, trailing dots, hyphens, empty labels
    "HTTPS://updates.example/x",
    "Https://updates.example/x",
    "https://Updates.example/x",
    "https://UPDATES.EXAMPLE/x",
    "https://updates.example./x",
    "https://.updates.example/x",
    "https://updates..example/x",
    "https://-updates.example/x",
    "https://updates_.example/x",
    "https://updates.example-/x",
    # white space and control characters; line ends that would become headers
    " https://updates.example/x",
    "https://updates.example/x ",
    "\thttps://updates.example/x",
    "https://updates.example/x\n",
    "https ://updates.example/x",
    "https:// updates.example/x",
    "https://updates.example /x",
    "https://updates .example/x",
    "ht\ntps://updates.example/x",
    "https://upd\tates.example/x",
    "https://updates.example\x00.evil.example/x",
    "https://updates.example/x\x00",
    "https://updates.example/x\x7f",
    "https://updates.example/x\r\nHost: evil.example\r\n",
    "https://updates.example\r\nX: y/x",
    "https://updates.example/x HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /",
    "https://updates.example/x%0d%0aHost:%20evil.example",
    "https://updates.example/x%00",
    "https://updates.example%00/x",
    "https://updates.example%2eevil.example/x",
    "https://%75pdates.example/x",
    "https://updates.example/%2e%2e/x",
    "https://updates.example/x%",
    # letters that look like, or are normalised to, what they are not
    "https://updates.ex\u0430mple/x",
    "https://updates\u3002example/x",
    "https://updates\uff0eexample/x",
    "https://\u24e4pdates.example/x",
    "https://updates.example\u2044x/y",
    "https://updates.example\uff0fx",
    "https\uff1a//updates.example/x",
    "http://10.0.0.\u0661:8000/x",
    "http://10.0.0.1:\uff18000/x",
    "https://updates.example/\u00e9",
    "https://\u200bupdates.example/x",
    "\ufeffhttps://updates.example/x",
    "https://updates.example/x\u2028",
    # other schemes, none, and nested ones
    "ftp://updates.example/x",
    "file:///update/x",
    "file://updates.example/x",
    "gopher://10.0.0.1:8000/_x",
    "data:text/plain,x",
    "javascript:https://updates.example/x",
    "httpss://updates.example/x",
    "ws://updates.example/x",
    "url:https://updates.example/x",
    "view-source:https://updates.example/x",
    "jar:https://updates.example/x!/y",
    "://updates.example/x",
    "//updates.example/x",
    "/x",
    "updates.example/x",
    "https:updates.example/x",
    "https:/updates.example/x",
    "https:///updates.example/x",
    "https:////updates.example/x",
    "https://https://updates.example/x",
    "https://evil.example/https://updates.example/x",
    # paths that are resolved differently
    "https://updates.example",
    "https://updates.example/",
    "https://updates.example//x",
    "https://updates.example/x//y",
    "https://updates.example/x/",
    "https://updates.example/../x",
    "https://updates.example/x/../y",
    "https://updates.example/x/..",
    "https://updates.example/./x",
    "https://updates.example/x/.",
    "https://updates.example/x:y",
    "https://updates.example/x@y",
    "https://updates.example/x*",
    "https://updates.example/x|y",
    "https://updates.example/<x>",
    # nothing, and no text
    "",
    "https://",
    "http",
    None,
    7,
    b"https://updates.example/x",
    ["https://updates.example/x"],
)

STRAYING = (
    "",
    "/x",
    "//evil.example/x",
    "///evil.example/x",
    "\\\\evil.example\\x",
    "http://evil.example/x",
    "https://updates.example/x",
    "https:x",
    "evil.example:80/x",
    "../x",
    "x/../../y",
    "..",
    ".",
    "./x",
    "x/.",
    "x/./y",
    "x//y",
    "x/",
    "..%2fx",
    "%2e%2e/x",
    "..\\x",
    "x\\..\\y",
    "?x",
    "#x",
    "x?y",
    "x#y",
    "@evil.example/x",
    "x;y",
    " x",
    "x ",
    "x\r\nHost: evil.example",
    "x\x00",
    "\u2024\u2024/x",
    "x" * 161,
    None,
    b"x",
)


def refused(call, *arguments):
    try:
        call(*arguments)
    except UpdateRefused as error:
        assert error.code == wire.HOST_REFUSED
        return True
    return False


def test_urls_of_the_one_form_are_taken():
    for url, parts in TAKEN:
        assert address.parse(url) == parts, url
        assert address.allowed(url, PROVISIONED), url


def test_each_trick_is_refused():
    for url in TRICKS:
        assert not address.allowed(url, PROVISIONED), url
    print(len(TRICKS), "URLs refused")


def test_host_in_another_form_is_refused_although_it_were_provisioned():
    for host in (
        "10.0.0.01",
        "012.0.0.1",
        "0x0a.0.0.1",
        "10.1",
        "10.0.1",
        "167772161",
        "0x0a000001",
        "10.0.0.256",
        "10.0.0.1.",
        "10.0.0.0.1",
        "updates.example.7",
        "updates.0x7",
        "-updates.example",
        "updates-.example",
        "updates.-example",
        "updates.example-",
        "updates..example",
        ".updates.example",
        "updates.example.",
        "Updates.example",
        "updates_1.example",
        "[::1]",
        "::1",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:080",
        "10.0.0.1:",
        "",
    ):
        origin = "http://" + host
        assert refused(address.parse, origin + "/x"), host
        assert not address.allowed(origin + "/x", [origin]), host


def test_host_that_was_not_provisioned_is_refused():
    assert not address.allowed("https://updates.example/x", [])
    assert not address.allowed("https://updates.example/x", ["https://other.example"])


def test_origin_that_is_no_origin_allows_nothing():
    url = "https://updates.example/x"
    for origin in (
        "",
        "https://",
        "updates.example",
        "https://updates.example/",
        "https://updates.example/x",
        "https://*",
        "*",
        "https://*.example",
        "https://updates.example:0",
        "https://user@updates.example",
        None,
        7,
        b"https://updates.example",
    ):
        assert not address.allowed(url, [origin]), origin
        assert address.allowed(url, [origin, "https://updates.example"])


def test_url_may_be_as_long_as_the_limit_and_no_longer():
    url = "https://updates.example/"
    url += "x" * (wire.URL_MAX - len(url))
    assert address.allowed(url, PROVISIONED)
    assert not address.allowed(url + "x", PROVISIONED)
    assert address.allowed(url + "x", PROVISIONED, wire.URL_MAX + 1)


def test_longest_label_and_name():
    label = "a" * 63
    assert address.parse("https://" + label + ".example/x")[1] == label + ".example"
    assert refused(address.parse, "https://a" + label + ".example/x")
    name = ".".join([label] * 4)[:253]
    assert address.parse("https://" + name + "/x", 400)[1] == name
    assert refused(address.parse, "https://a" + name + "/x", 400)


def test_reference_is_joined_to_the_folder_of_the_url():
    url = "https://updates.example/wearable/2/manifest.suit"
    assert address.join(url, "trust/3.cbor") == "https://updates.example/wearable/2/trust/3.cbor"
    assert address.join("http://10.0.0.1:8000/m", "ab/full.deflate") == "http://10.0.0.1:8000/ab/full.deflate"


def test_longest_reference_fits_what_is_fetched():
    url = "https://updates.example/"
    url += "x" * (wire.URL_MAX - len(url))
    name = wire.PATCH_NAME % ("a" * 64, "b" * 64)
    joined = address.join(url[:30] + "/" + url[31:], name)
    assert address.allowed(joined, PROVISIONED, address.JOINED_MAX)
    assert not address.allowed(joined, PROVISIONED)
    assert wire.URL_MAX + len(name) <= address.JOINED_MAX


def test_reference_that_leaves_the_folder_is_refused():
    for reference in STRAYING:
        assert refused(address.join, "https://updates.example/wearable/m", reference), reference
    print(len(STRAYING), "references refused")


def test_reference_to_a_url_that_is_refused_is_refused():
    for url in ("https://user@updates.example/x", "ftp://updates.example/x", "x", None):
        assert refused(address.join, url, "full.deflate")


def test_joined_url_is_of_the_same_origin():
    for url, parts in TAKEN:
        assert address.parse(address.join(url, "a/b"))[:3] == parts[:3]
