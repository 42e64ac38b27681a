# SIMCom A7670: Cat-1, and GSM where the module has it. As sim70xx.py; its bands stay as they are.
#
# "A76XX Series AT Command Manual" V1.11: CNMP 2 automatic, 38 LTE only; CPOF; CTZU (the network's time goes into the
# clock); CCLK, local time; SPIC. Hardware design, "Power off": PWRKEY for at least 2.5 s.
TABLE = """rat lte|+CNMP|38
rat any|+CNMP|2
setting|%s?|%s:|%s=%s
begin|+CTZU=1
clock|+CCLK?|+CCLK:
pins|+SPIC|+SPIC:
off|+CPOF|OK|3000
boot|15000"""
