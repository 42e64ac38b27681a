# Why an update was refused: a code of sealwire.update. (Compiled, up to 128 bytes take no block of flash.)
class UpdateRefused(Exception):
    def __init__(self, code):
        self.code = code
