"""Slot lexicons of the maintenance-report grammar (all invented; see DATASHEET.md).

A leading "-" in a fault or symptom means "takes no article". Entries are separated by ";".
"""

from __future__ import annotations

CLASSES = ("WEAR", "INSTALLATION", "FOREIGN_OBJECT", "ELECTRICAL", "NO_FAULT_FOUND")
KINDS = ("rot", "val", "elx", "mec")  # rotating, valve/actuator, electronic, mechanical


def entries(text: str) -> list[str]:
    """Split a ";"-separated lexicon string."""
    return [" ".join(item.split()) for item in text.split(";") if item.strip()]


HARNESSES = entries(
    "pressure switch connector; wing root harness; pylon disconnect plug; sensor pigtail; cannon plug;"
    "feeder cable;"
    "W1205 bundle; ground stud GD24; terminal strip; rack backplane; shield termination; relay socket;"
    "proximity sensor lead; bulkhead connector; splice pack; coax run; data bus stub; J4 receptacle;"
    "thermocouple lead;"
    "signal cable"
)

# fault noun phrases: class -> kind -> phrases
FAULTS: dict[str, dict[str, str]] = {
    "WEAR": {
        "rot": "worn drive spline; spalled bearing; -bearing wear; worn shaft seal; -fatigue of the impeller;"
        "glazed clutch; -brush wear; scored gear set; -age hardening of the carbon seal;"
        "life-expired rotor bearing;"
        "thinned vane tip; -wear of the thrust washer",
        "val": "worn poppet; perished seat seal; -internal leakage past the spool; tired return spring;"
        "worn rod bushing;"
        "-galling of the spool; -age-related stiction; eroded metering edge; worn ball screw;"
        "weeping gland packing;"
        "-seat erosion",
        "elx": "dried-out capacitor; -end-of-life drift; -age-related card failure;"
        "worn potentiometer track; tired relay;"
        "failed memory battery; burned-in display; -heat-aged solder; cracked ceramic core; worn keyswitch",
        "mec": "fatigue crack; perished hose liner; worn bushing; -corrosion from age; flattened seal;"
        "worn hinge pin;"
        "-wear of the liner; brittle O-ring; thinned brake stack; -creep of the composite; hardened gasket;"
        "elongated bolt hole",
    },
    "INSTALLATION": {
        "rot": "missing O-ring; misaligned coupling; reversed thrust washer; over-torqued V-band clamp;"
        "omitted shim;"
        "swapped inlet line; -incorrect shimming; loose mounting bolt; pinched packing; -missing safety wire",
        "val": "reversed valve body; wrong dash-number seal; cross-threaded B-nut; misrigged linkage;"
        "missing cotter pin;"
        "under-torqued fitting; -incorrect rigging; left-in shipping plug; twisted backup ring;"
        "reversed flow arrow",
        "elx": "partly seated LRU; wrong software load; unlocked rack hold-down; mis-set strap option;"
        "swapped sensor plug;"
        "-incorrect pin programming; wrong part number; left-off dust cap; unclamped tray latch;"
        "misaligned bracket",
        "mec": "missing clamp; over-torqued bolt; pinched seal; wrong-length fastener; reversed bracket;"
        "-incorrect shim stack;"
        "double gasket; omitted washer; loose jam nut; twisted hose; mislocated grommet; -uncured sealant",
    },
    "FOREIGN_OBJECT": {
        "rot": "ingested bird; ingested rag; -ice ingestion; gravel nick; stray rivet; -runway debris;"
        "metal chip;"
        "-bird residue; -blade damage from hail; plastic bag; paper wad; clump of lint; cable tie end",
        "val": "metal sliver; -sand contamination; trapped lockwire clipping; -ice blockage; wad of tape;"
        "nest of insects;"
        "rubber fragment; -debris in the valve seat; loose screw; -wasp mud",
        "elx": "coffee spill; conductive sliver; -insect debris; -hail damage; bird impact; -dust clogging;"
        "stray washer;"
        "lost drill bit; -de-icing fluid residue; pebble strike",
        "mec": "bird strike dent; tire tread fragment; stone bruise; jammed cutlery; -runway gravel;"
        "forgotten flashlight;"
        "ice impact gouge; -tread rubber; ground cart dent; lodged bottle cap; hail dent; wedged pen",
    },
    "ELECTRICAL": {
        "rot": "chafed wire bundle; -corrosion on the plug pins; bent pin; open motor phase lead;"
        "loose ground lug;"
        "shorted feeder wire; -false speed signal; broken shield",
        "val": "chafed solenoid wire; -moisture in the connector; intermittent open circuit; bent contact;"
        "shorted position wire;"
        "-false position signal; high-resistance splice; broken solder joint at the plug",
        "elx": "backed-out pin; -water in the connector; corroded backshell; intermittent ground;"
        "-noise on the data bus;"
        "broken coax center; cracked solder cup; high-resistance contact; -spurious sensor signal;"
        "open shield",
        "mec": "chafed sensor lead; corroded switch contact; false sensor reading; broken bonding strap;"
        "shorted heater wire;"
        "open thermocouple lead; wet connector; damaged harness sleeve; loose terminal;"
        "-erratic probe signal",
    },
}

GENERIC: dict[str, str] = {  # class-level hypotheses, mostly for what is suspected and ruled out
    "WEAR": "-normal wear; -old age; -wear and tear; mechanical wear-out; -internal wear; fatigue failure;tired seal",
    "INSTALLATION": "-maintenance error; rigging error; bad install; assembly error; -incorrect installation;"
    "mistake at the last shop visit; torque error",
    "FOREIGN_OBJECT": "bird strike; -FOD; -foreign object damage; -ingested debris; -ice ingestion;"
    "stone impact; tool left behind",
    "ELECTRICAL": "wiring fault; bad connector; sensor fault; false indication; chafed wire; ground fault;intermittent short",
}

ACTIONS: dict[str, str] = {
    "WEAR": "replaced; removed and replaced; changed; overhauled; renewed; R/R'd; exchanged;scrapped and replaced",
    "INSTALLATION": "reinstalled; re-rigged; refitted; retorqued; reseated; removed and reinstalled;realigned; replaced",
    "FOREIGN_OBJECT": "cleaned; flushed; blended; replaced; cleared of debris; removed and cleaned; purged;dressed out",
    "ELECTRICAL": "spliced; repinned; re-terminated; cleaned; rewired; sleeved and re-clamped; repaired;replaced; dried out",
    "NO_FAULT_FOUND": "reset; reracked; swapped; reseated; cycled; cleaned; reprogrammed; serviced",
}
PRECAUTION_ACTIONS: dict[str, str] = {
    "rot": "lubricated; greased; cleaned; serviced; replaced; retightened; re-lockwired; swapped;topped up with oil",
    "val": "lubricated; cleaned; exercised; tightened; re-lockwired; resealed; replaced; drained; adjusted",
    "elx": "reset; reseated; cleaned; swapped; replaced; reprogrammed; recalibrated; dried out; reracked",
    "mec": "resealed; cleaned; tightened; wiped down; lubricated; touched up; secured; replaced; polished",
}
UNFIT_ACTIONS: dict[str, tuple[str, ...]] = {  # actions that make no sense on a kind of part
    "rot": ("blended", "dressed out", "re-rigged", "scrapped and replaced"),
    "val": ("blended", "dressed out"),
    "elx": (
        "re-rigged",
        "retorqued",
        "flushed",
        "blended",
        "purged",
        "dressed out",
        "realigned",
        "cleared of debris",
    ),
    "mec": ("re-rigged", "purged", "flushed"),
}
WIRING_ONLY = ("spliced", "repinned", "re-terminated", "rewired", "sleeved and re-clamped", "dried out")
SIDES = ("No. 1 ", "No. 2 ", "left ", "right ", "LH ", "RH ")
UNSIDED = (
    r"APU|nose|center|main|standby|inboard|outboard|system|ram air|emergency|forward|lav|galley|cabin|CVR"
    r"|LH|RH|aft"
)

TYPES = entries(
    "Corvane 320; Tessin T-90; Halden 410; Merid MR-7; Brevik B200; Corvane 350; Ostra Regional 72;"
    "Halden 450;"
    "Lurien L-11; Tessin T-60; Vantor 88; Merid MR-9"
)
PHASES = entries(
    "during climb through FL#HI; on short final; at top of descent; in the cruise at FL#HI;"
    "after gear retraction;"
    "in the flare; on rotation; passing #LO feet; during the descent; at gear extension;"
    "shortly after takeoff;"
    "on the ILS; in the hold; about #MIN minutes after departure; during the go-around; on the landing roll;"
    "#MIN minutes before landing; with flaps in transit; at #LO feet on approach; during reverse;"
    "in heavy rain at FL#HI; in the initial climb; on downwind; abeam the outer marker; in the turn to final"
)
GROUND_PHASES = entries(
    "during pushback; at engine start; on taxi-in; while taxiing out; at the gate; during refueling;"
    "on power-up;"
    "at the deicing pad; during the turnaround; at the holding point"
)
REPORTERS = entries(
    "the captain; the first officer; the relief pilot; the outbound crew; the inbound crew; the ferry crew;"
    "the check airman; the commander; the pilot flying; the pilot monitoring"
)
CABIN_REPORTERS = entries("the lead flight attendant; a passenger in row 14; the purser; a deadheading pilot; the cabin crew")
GROUND_REPORTERS = entries(
    "a ramp agent; the fueler; a loader; the tug driver; the walkaround mechanic; the headset man;"
    "the turnaround mechanic;"
    "the dispatcher"
)
CABIN_SYSTEMS = ("cabin", "bleed air", "pressurization and doors")
WHENS = entries(
    "three weeks earlier; at the last C check; two sectors before; the previous night; in March;"
    "on the last layover;"
    "#MIN flight hours ago; during the spring heavy check; ten days before; at the last A check;"
    "the week before;"
    "one month ago; on Tuesday night; at the last overhaul; over the winter"
)
TESTS = entries(
    "a #MIN-minute ground run; an operational test; a full BITE; a functional check;"
    "a return-to-service test;"
    "a check flight; an ops check; a system test"
)
SYSTEM_TESTS: dict[str, str] = {
    "hydraulic": "a leak check; a #MIN-minute pressure run; a bleed and leak check",
    "engine": "a high-power run; an idle leak check; a start test; a vibration survey",
    "electrical power": "a load bank test; a power transfer test; a #MIN-minute load run",
    "landing gear": "a gear swing test; a three-cycle retraction test; a taxi test",
    "bleed air": "a high-power run; a pressure decay test; a #MIN-minute pack run",
    "flight controls": "a full-travel check; a rigging pin check; a friction test",
    "fuel": "a leak check; a defuel and refuel cycle; a transfer test",
    "apu": "a start test; a loaded #MIN-minute run; a shutdown test",
    "ice and rain": "a heat-up test; a pneumatic leak check; a static leak check",
    "navigation": "a loopback test; a ramp radio test; a position check",
    "cabin": "a water fill test; a #MIN-minute soak test; a power-up test",
    "pressurization and doors": "a cabin pressure run; a door cycle test; a ten-cycle latch check",
    "oxygen and fire protection": "a pressure decay test; a squib circuit test; a flow test",
}
MEANS: dict[str, str] = {  # how a hypothesis of a class is checked
    "WEAR": "the borescope; the shop teardown; a bench test; a magnifier check; a dye penetrant check;"
    "a play check;"
    "a rotation check by hand; the service limits check; the oil analysis; a swap with the opposite side",
    "INSTALLATION": "a records check; the paperwork review; a torque check; a general visual inspection;"
    "a comparison with the drawing; a rigging check; a second inspection; a look at the build photographs",
    "FOREIGN_OBJECT": "a borescope inspection; the borescope; a general visual inspection;"
    "a UV lamp inspection;"
    "an X-ray; a look through the access port; a full walkaround; a tool count",
    "ELECTRICAL": "a continuity check; the BITE history; an insulation test; a wiggle test; the QAR data;"
    "a resistance check; a breakout box test; a ring-out test",
}
OUTDOOR = entries(
    "ingested bird; ice ingestion; gravel nick; runway debris; bird residue; blade damage from hail;"
    "hail damage;"
    "bird impact; pebble strike; bird strike dent; tire tread fragment; stone bruise; runway gravel;"
    "ice impact gouge;"
    "tread rubber; hail dent; bird strike; stone impact; ingested debris"
)
INDOOR_SYSTEMS = ("cabin", "electrical power", "navigation", "oxygen and fire protection")
EXPOSED_SYSTEMS = ("engine", "apu", "bleed air", "landing gear", "ice and rain")
