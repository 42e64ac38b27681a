# esp32.NVS over one file, for a plain MicroPython.
import os


class NVS:
    def __init__(self, namespace):
        self._path = os.getenv("PLAIN_NVS")
        try:
            with open(self._path) as file:
                self._pairs = eval(file.read())
        except OSError:
            self._pairs = {}

    def get_i32(self, key):
        return self._get(key)

    def set_i32(self, key, value):
        self._pairs[key] = value

    def get_blob(self, key, buffer):
        value = self._get(key)
        buffer[: len(value)] = value
        return len(value)

    def set_blob(self, key, value):
        self._pairs[key] = bytes(value)

    def erase_key(self, key):
        self._get(key)
        del self._pairs[key]

    def commit(self):
        with open(self._path + ".new", "w") as file:
            file.write(repr(self._pairs))
        os.rename(self._path + ".new", self._path)

    def _get(self, key):
        if key not in self._pairs:
            raise OSError(-0x1102, "ESP_ERR_NVS_NOT_FOUND")
        return self._pairs[key]
