# The simulated chip's line to the process that started it. A request is a line that begins with "@"; the answer is a
# line, or as many bytes as a line before them says. Bytes go straight into the caller's buffer, to spare the heap.
import sys


def tell(*words):
    print("@", *words)


# a request whose last word is bytes
def tell_bytes(data, *words):
    sys.stdout.write("@")
    for word in words:
        sys.stdout.write(" " + str(word))
    sys.stdout.write(" -")
    for byte in data:
        sys.stdout.write(f"{byte:02x}")
    sys.stdout.write("\n")


def answer():
    return sys.stdin.readline().strip()


# the number of bytes that came into the buffer; -1: there is nothing
def answer_into(buffer):
    length = int(sys.stdin.readline())
    if length > 0:
        sys.stdin.buffer.readinto(memoryview(buffer)[:length])
    return length
