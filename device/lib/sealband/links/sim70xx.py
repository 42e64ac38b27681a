# SIMCom SIM7000 and SIM7080 series: Cat-M, NB-IoT, and GSM where the module has it. One line an entry, read by
# modem.entry(); one string, since a dictionary of it would take three times the heap.
#
# "SIM7000 Series AT Command Manual" V1.04 and "SIM7070_SIM7080_SIM7090 Series AT Command Manual" V1.04, chapter 5
# (commands special for SIMCom): CNMP 2 automatic, 38 LTE only; CMNB 1 Cat-M, 2 NB-IoT, 3 both; CBANDCFG, CPOWD, CLTS
# (the network's time goes into the clock), SPIC; chapter 3: CCLK, local time. Hardware design guides, "Power off":
# PWRKEY for at least 1.2 s.
TABLE = """rat cat-m|+CNMP|38|+CMNB|1
rat nb-iot|+CNMP|38|+CMNB|2
rat lte|+CNMP|38|+CMNB|3
rat any|+CNMP|2|+CMNB|3
setting|%s?|%s:|%s=%s
band list|CAT-M|NB-IOT
begin|+CLTS=1
clock|+CCLK?|+CCLK:
pins|+SPIC|+SPIC:
off|+CPOWD=1|NORMAL POWER DOWN|1500
boot|8000"""
