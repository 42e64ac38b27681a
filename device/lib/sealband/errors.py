# Errors of the chain and what stands on it, split by what the caller does next. Each derives straight from Exception;
# no message carries a secret. Parsers and drivers have their own errors beside them.


class StoreError(Exception):
    # Flash did not keep what it was told: nothing that depends on it may happen; try again later.
    pass


class NotEnrolled(Exception):
    # There is no chain: leave the serial port open for the station.
    pass


class AlreadyEnrolled(Exception):
    # There is a chain and it is not this one: starting anew would use its counters twice.
    pass


class ChainStopped(Exception):
    # No contact for so long that the server would not find the keys: send nothing new, say so in the log.
    pass


class SealError(Exception):
    # A frame that is not to be acted on, or a plaintext that does not fit: count `reason`, go on.
    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason
