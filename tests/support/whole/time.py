# `time` in virtual time, which passes where somebody sleeps. Ends the program when its time is over.
now_us = 0
stop_after_s = 1 << 20


def sleep_us(us):
    global now_us
    now_us += us
    if now_us > stop_after_s * 1000000:
        raise SystemExit


def sleep_ms(ms):
    sleep_us(ms * 1000)


def ticks_ms():
    return now_us // 1000 & 0x3FFFFFFF


def ticks_add(ticks, delta):
    return (ticks + delta) & 0x3FFFFFFF


def ticks_diff(end, start):
    return ((end - start + 0x20000000) & 0x3FFFFFFF) - 0x20000000


def time():
    return now_us // 1000000
