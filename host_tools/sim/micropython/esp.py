# `esp` as the ESP32 has it, as far as Sealband uses it.
import esp32


# Flash comes in powers of two; this one holds the partitions.
def flash_size():
    end = 0
    for kind in (esp32.Partition.TYPE_APP, esp32.Partition.TYPE_DATA):
        for partition in esp32.Partition.find(kind):
            _, _, address, size, _, _ = partition.info()
            end = max(end, address + size)
    size = 1 << 20
    while size < end:
        size *= 2
    return size
