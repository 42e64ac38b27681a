# Quectel BG95 and BG96: Cat-M, NB-IoT, GSM. As sim70xx.py.
#
# "BG95&BG77 AT Commands Manual" V1.0 and "BG96 AT Commands Manual" V2.1: QCFG "nwscanmode" 0 automatic, 3 LTE only,
# "iotopmode" 0 Cat-M, 1 NB-IoT, 2 both, "band" <GSM>,<Cat-M>,<NB-IoT> in hexadecimal (bit n-1 is band n, 0 leaves a
# field as it is), each with 1 for "at once"; QPOWD; QPINC; QLTS=1: GMT, the zone behind it is for information. Hardware
# design, "Turn off": PWRKEY for 650 ms to 1500 ms.
TABLE = """rat cat-m|nwscanmode|3|iotopmode|0
rat nb-iot|nwscanmode|3|iotopmode|1
rat lte|nwscanmode|3|iotopmode|2
rat any|nwscanmode|0|iotopmode|2
setting|+QCFG="%s"|+QCFG: "%s",|+QCFG="%s",%s,1
band mask|band
clock|+QLTS=1|+QLTS:|utc
pins|+QPINC="SC"|+QPINC: "SC",
off|+QPOWD=1|POWERED DOWN|1000
boot|10000"""
