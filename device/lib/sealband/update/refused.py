# Why an update was refused: a code of sealwire.update.
class UpdateRefused(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code
