# What modems say, as their manuals and public logs show it. `>` is what the device sends, `<` a line of the modem's,
# `~` milliseconds of silence before the next line. A command that comes again is answered by its next step, or by its
# last one. Sources are named with each.

# name: (family, whether it comes up, what comes with the bearer, transcript)
CORPUS = {}

# github.com/Xinyuan-LilyGO/LilyGo-T-SIM7080G issues 98 and 3; SIM7070_SIM7080_SIM7090 AT manual V1.04: CEREG, CLTS
CORPUS["SIM7080G attaches"] = (
    "sim70xx",
    True,
    {"rat": "cat-m"},
    """
> AT
< AT
< OK
> ATE0
< ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: READY
< OK
< SMS Ready
> AT+CLTS=1
< OK
> AT+CNMP?
< +CNMP: 2
< OK
> AT+CNMP=38
< OK
> AT+CMNB?
< +CMNB: 1
< OK
> AT+CGDCONT?
< +CGDCONT: 1,"IPV4V6","","0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0",0,0,0,0
< OK
> AT+CGDCONT=1,"IP","iot.1nce.net"
< OK
> AT+CFUN=4
~ 400
< OK
> AT+CFUN=1
~ 900
< +CPIN: READY
< OK
< SMS Ready
> AT+CEREG?
< +CEREG: 0,2
< OK
> AT+CGREG?
< +CGREG: 0,2
< OK
> AT+CEREG?
< *PSUTTZ: 26/08/27,10:21:43","+32",0
< DST: 0
< +CEREG: 0,5
< OK
> AT+CSQ
< +CSQ: 19,99
< OK
> AT+CCLK?
< +CCLK: "26/08/27,18:21:45+32"
< OK
> ATD*99#
~ 1200
< CONNECT 150000000
""",
)

# the same, issues 90 and 3: CSQ 99, "0,2" again and again
CORPUS["SIM7080G finds no service"] = (
    "sim70xx",
    False,
    {},
    """
> AT
< OK
> ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: READY
< OK
> AT+CLTS=1
< OK
> AT+CGDCONT?
< +CGDCONT: 1,"IP","iot.1nce.net","0.0.0.0",0,0,0,0
< OK
> AT+CEREG?
< +CEREG: 0,2
< OK
> AT+CGREG?
< +CGREG: 0,0
< OK
""",
)

# the same, issue 3: the SIM was not registered with its operator
CORPUS["SIM7080G is denied"] = (
    "sim70xx",
    False,
    {},
    """
> AT
< OK
> ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: READY
< OK
> AT+CLTS=1
< OK
> AT+CGDCONT?
< +CGDCONT: 1,"IP","iot.1nce.net","0.0.0.0",0,0,0,0
< OK
> AT+CEREG?
< +CEREG: 0,3
< OK
> AT+CGREG?
< +CGREG: 0,3
< OK
""",
)

# the same, issue 98: the module switches itself off in the middle
CORPUS["SIM7080G goes off"] = (
    "sim70xx",
    False,
    {},
    """
> AT
< OK
> ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: READY
< OK
> AT+CLTS=1
< OK
> AT+CGDCONT?
< NORMAL POWER DOWN
""",
)

# github.com/Xinyuan-LilyGO/LilyGO-T-SIM7000G issue 140 (echo on, CLTS, "Modem Info: SIM7000G R1529");
# github.com/vshymanskyy/TinyGSM issue 60: garbage after a restart
CORPUS["SIM7000G with echo and garbage"] = (
    "sim70xx",
    True,
    {},
    """
> AT
< \xef\xbf\xbd\xef\xbf\xbd\xfe\x00\x80AT
> AT
< AT
< OK
> ATE0
< ATE0
< OK
> AT+CMEE=1
< +CPIN: NOT READY
< \xef\xbf\xbd\xef\xbf\xbd
< OK
> AT+CPIN?
< +CPIN: READY
< OK
> AT+CLTS=1
< OK
> AT+CGDCONT?
< +CGDCONT: 1,"IP","iot.1nce.net","0.0.0.0",0,0,0,0
< +CGDCONT: 13,"IP","iot.1nce.net","0.0.0.0",0,0,0,0
< OK
> AT+CEREG?
< +CEREG: 0,0
< OK
> AT+CGREG?
< +CGREG: 0,1
< OK
> AT+CSQ
< +CSQ: 99,99
< OK
> AT+CCLK?
< +CCLK: "80/01/06,00:00:39+00"
< OK
> ATD*99#
< CONNECT
""",
)

# github.com/Xinyuan-LilyGO/LilyGo-T-Call-SIM800 issue 33 and T-Internet-COM issue 24: no SIM; TS 27.007 9.2: 10
CORPUS["SIM7000G without a SIM"] = (
    "sim70xx",
    False,
    {},
    """
> AT
< OK
> ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CME ERROR: 10
""",
)

# TS 27.007 8.3: the operator's key (PUK) is wanted after three wrong PINs
CORPUS["SIM7000G whose SIM is locked"] = (
    "sim70xx",
    False,
    {},
    """
> AT
< OK
> ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: SIM PUK
< OK
""",
)

# SIM7000 AT manual V1.04, SPIC and CPIN: a PIN that is right
CORPUS["SIM7000G takes its PIN, and the carrier drops"] = (
    "sim70xx",
    False,
    {},
    """
> AT
< OK
> ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: SIM PIN
< OK
> AT+SPIC
< +SPIC: 3,10,0,10
< OK
> AT+CPIN="4321"
< OK
< +CPIN: READY
> AT+CPIN?
< +CPIN: READY
< OK
> AT+CLTS=1
< OK
> AT+CGDCONT?
< +CGDCONT: 1,"IP","iot.1nce.net","0.0.0.0",0,0,0,0
< OK
> AT+CEREG?
< +CEREG: 0,1
< OK
> AT+CSQ
< +CSQ: 14,99
< OK
> AT+CCLK?
< +CCLK: "26/11/21,16:10:00+00"
< OK
> ATD*99#
~ 4000
< NO CARRIER
""",
)

# github.com/vshymanskyy/TinyGSM issue 157: RDY between the device's ATs, +QIURC; BG96 AT manual V2.1: QCFG, QLTS
CORPUS["BG96 attaches"] = (
    "bg9x",
    True,
    {"rat": "nb-iot", "bands": (8, 20), "psm": (3600, 10), "edrx_s": 82},
    """
> AT
< +QIURC: "pdpdeact",1
> AT
< RDY
< APP RDY
> AT
< AT
< OK
> ATE0
< ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: READY
< OK
> AT+QCFG="nwscanmode"
< +QCFG: "nwscanmode",0
< OK
> AT+QCFG="nwscanmode",3,1
< OK
> AT+QCFG="iotopmode"
< +QCFG: "iotopmode",1
< OK
> AT+QCFG="band"
< +QCFG: "band",0xf,0x80084,0x80084
< OK
> AT+QCFG="band",0,80080,80080,1
< OK
> AT+CGDCONT?
< OK
> AT+CGDCONT=1,"IP","iot.1nce.net"
< OK
> AT+CFUN=4
< OK
> AT+CFUN=1
< OK
> AT+CPSMS=1,,,"00000110","00000101"
< OK
> AT+CEDRXS=1,5,"0101"
< OK
> AT+CEREG?
< +CEREG: 0,2
< OK
> AT+CGREG?
< +CGREG: 0,4
< OK
> AT+CEREG?
< +CEREG: 0,1
< OK
> AT+CSQ
< +CSQ: 21,0
< OK
> AT+QLTS=1
< +QLTS: "2026/10/05,04:10:22+08,0"
< OK
> ATD*99#
< CONNECT 150000000
""",
)

# TinyGSM issue 453: 0,3 for good
CORPUS["BG96 is denied"] = (
    "bg9x",
    False,
    {},
    """
> AT
< OK
> ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: READY
< OK
> AT+CGDCONT?
< +CGDCONT: 1,"IP","iot.1nce.net","0.0.0.0",0,0,0
< OK
> AT+CEREG?
< +CEREG: 0,3
< OK
> AT+CGREG?
< +CGREG: 0,3
< OK
""",
)

# BG95&BG77 AT manual V1.0, CPIN and QPINC; TS 27.007 9.2: 16 is a wrong password
CORPUS["BG95 refuses the PIN"] = (
    "bg9x",
    False,
    {},
    """
> AT
< OK
> ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: SIM PIN
< OK
> AT+QPINC="SC"
< +QPINC: "SC",3,10
< OK
> AT+CPIN="4321"
~ 300
< +CME ERROR: 16
""",
)

# the same manual; zephyrproject-rtos/zephyr issue 88686: RDY seconds after power-on; PPP by ATD*99#
CORPUS["BG95 takes its PIN"] = (
    "bg9x",
    True,
    {"rat": "any"},
    """
> AT
< RDY
< +CFUN: 1
< +CPIN: SIM PIN
< OK
> ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: SIM PIN
< OK
> AT+QPINC="SC"
< +QPINC: "SC",3,10
< OK
> AT+CPIN="4321"
< OK
< +CPIN: READY
< +QIND: SMS DONE
> AT+CPIN?
< +CPIN: READY
< OK
> AT+QCFG="nwscanmode"
< +QCFG: "nwscanmode",0
< OK
> AT+QCFG="iotopmode"
< +QCFG: "iotopmode",2
< OK
> AT+CGDCONT?
< +CGDCONT: 1,"IP","iot.1nce.net","0.0.0.0",0,0,0
< OK
> AT+CEREG?
< +CEREG: 0,5
< OK
> AT+CSQ
< +CSQ: 24,99
< OK
> AT+QLTS=1
< +QLTS: ""
< OK
> ATD*99#
< CONNECT 150000000
""",
)

# github.com/Xinyuan-LilyGO/LilyGo-Modem-Series issues 79 (SIM failure just after the start), 247, 520 (PPP)
CORPUS["A7670E attaches"] = (
    "a76xx",
    True,
    {"rat": "lte"},
    """
> AT
~ 9000
< *ATREADY: 1
< AT
< OK
> AT
< AT
< OK
> ATE0
< ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CME ERROR: 13
< +CPIN: READY
< SMS DONE
> AT+CPIN?
< +CPIN: READY
< OK
< PB DONE
> AT+CTZU=1
< OK
> AT+CNMP?
< +CNMP: 2
< OK
> AT+CNMP=38
< OK
> AT+CGDCONT?
< +CGDCONT: 1,"IP","umts","0.0.0.0",0,0,,,,
< +CGDCONT: 8,"IPV4V6","ims","0.0.0.0",0,0,,,,
< OK
> AT+CGDCONT=1,"IP","iot.1nce.net"
< OK
> AT+CFUN=4
< +CGEV: ME DETACH
< OK
> AT+CFUN=1
< OK
< +CPIN: READY
< SMS DONE
< +CGEV: EPS PDN ACT 1
< *COPN:0,"KT"
> AT+CEREG?
< +CEREG: 0,1
< OK
> AT+CSQ
< +CSQ: 26,99
< OK
> AT+CCLK?
< +CCLK: "26/03/01,00:59:58-20"
< OK
> ATD*99#
< CONNECT 115200
""",
)

# Modem-Series issue 247: 0,11 and no data
CORPUS["A7670E is only half registered"] = (
    "a76xx",
    False,
    {},
    """
> AT
< OK
> ATE0
< OK
> AT+CMEE=1
< OK
> AT+CPIN?
< +CPIN: READY
< OK
> AT+CTZU=1
< OK
> AT+CGDCONT?
< +CGDCONT: 1,"IP","iot.1nce.net","0.0.0.0",0,0,,,,
< OK
> AT+CEREG?
< +CEREG: 0,11
< OK
> AT+CGREG?
< +CGREG: 0,11
< OK
""",
)


# [(command, [line or number of milliseconds])]
def steps(text):
    made = []
    for row in text.strip().split("\n"):
        kind, rest = row[0], row[2:]
        if kind == ">":
            made.append((rest, []))
        else:
            made[-1][1].append(int(rest) if kind == "~" else rest)
    return made
