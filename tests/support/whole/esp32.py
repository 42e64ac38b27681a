# `esp32.NVS`: the flash that it stands for is on the other end of the line.
from _wire import answer_into, tell, tell_bytes

_number = bytearray(4)


class NVS:
    def __init__(self, namespace):
        pass

    def get_blob(self, key, buffer):
        tell("get", key)
        length = answer_into(buffer)
        if length < 0:
            raise OSError(-0x1102, "ESP_ERR_NVS_NOT_FOUND")
        return length

    def get_i32(self, key):
        self.get_blob(key, _number)
        return int.from_bytes(_number, "big")

    def set_blob(self, key, value):
        tell_bytes(value, "set", key)

    def set_i32(self, key, value):
        self.set_blob(key, value.to_bytes(4, "big"))

    def erase_key(self, key):
        tell("erase", key)

    def commit(self):
        pass
