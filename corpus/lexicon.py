"""Slot lexicons of the maintenance-report grammar (all invented; see DATASHEET.md).

A leading "-" in a fault or symptom means "takes no article". Entries are separated by ";".
"""

from __future__ import annotations

CLASSES = ("WEAR", "INSTALLATION", "FOREIGN_OBJECT", "ELECTRICAL", "NO_FAULT_FOUND")
KINDS = ("rot", "val", "elx", "mec")  # rotating, valve/actuator, electronic, mechanical


def entries(text: str) -> list[str]:
    """Split a ";"-separated lexicon string."""
    return [" ".join(item.split()) for item in text.split(";") if item.strip()]


# system -> ATA chapter, parts by kind, symptoms, locations ("preposition|place")
SYSTEMS: dict[str, dict[str, str]] = {
    "hydraulic": {
        "ata": "29",
        "rot": "engine-driven pump; AC motor pump; ram air turbine; power transfer unit;"
        "standby hydraulic pump",
        "val": "priority valve; system relief valve; pump shutoff valve; reservoir fill selector valve;"
        "bypass valve",
        "elx": "quantity transmitter; hydraulic pressure transducer; HYDIM card; low-pressure switch",
        "mec": "case drain filter; return filter module; pressure manifold; brake accumulator;"
        "pump flex hose;"
        "hydraulic reservoir; ripple damper",
        "symptoms": "hydraulic leak; -loss of system A quantity; -low hydraulic pressure; pump overheat;"
        "slow quantity decay; -pressure fluctuation; -fluid mist; loud hydraulic whine",
        "locs": "in the|left wheel well; in the|hydraulic service bay; at the|No. 2 pylon;"
        "in the|aft fairing;"
        "in the|right wheel well; behind the|pylon fairing",
    },
    "engine": {
        "ata": "72",
        "rot": "N2 tach generator drive; fan module; scavenge pump; air turbine starter; lube pump;"
        "HP compressor rotor",
        "val": "anti-ice valve; starter air valve; bleed-off valve; variable stator vane actuator;"
        "fuel metering valve",
        "elx": "EEC; vibration transducer; EGT probe; N1 speed sensor; oil debris monitor; ignition exciter",
        "mec": "accessory gearbox; oil filter housing; fan blade; inlet guide vane; magnetic chip detector;"
        "fan spinner;"
        "oil cooler",
        "symptoms": "-N1 vibration; EGT spike; -oil smell in the cabin; hung start; compressor stall;"
        "loud bang;"
        "-rising oil temperature; -oil loss; slow spool-up",
        "locs": "in the|fan case; at the|six o'clock position; in the|core cowl area;"
        "at the|accessory gearbox pad;"
        "in the|tailcone; in the|engine inlet",
    },
    "electrical power": {
        "ata": "24",
        "rot": "IDG; starter-generator; static inverter fan; emergency generator; constant speed drive",
        "val": "IDG disconnect solenoid; IDG oil thermal valve; bus tie contactor; generator breaker;"
        "GCU relay",
        "elx": "GCU; bus power control unit; TRU; static inverter; battery charger; current transformer",
        "mec": "main battery; IDG oil cooler; feeder terminal block; external power receptacle;"
        "battery vent hose",
        "symptoms": "-generator trip; -flickering of the displays; -bus transfer failure; -IDG oil overheat;"
        "-low battery voltage; electrical burning smell; -frequency swing",
        "locs": "in the|main equipment center; behind the|P6 panel; in the|battery compartment; at|frame 24;"
        "in the|lower nose compartment; below the|avionics rack",
    },
    "landing gear": {
        "ata": "32",
        "rot": "wheel speed transducer drive; inboard wheel bearing; nose wheel; outboard wheel;"
        "brake cooling fan",
        "val": "gear selector valve; uplock actuator; nose gear steering actuator; retract actuator;"
        "antiskid valve;"
        "door sequence valve",
        "elx": "PSEU; downlock proximity sensor; antiskid control unit; tire pressure monitor;"
        "brake temperature sensor",
        "mec": "torque link; shimmy damper; side stay; main gear strut; brake assembly; tow fitting;"
        "gear door hinge",
        "symptoms": "-gear disagree; -nose wheel shimmy; -uncommanded steering; hot brake;"
        "-gear door vibration;"
        "-brake drag; unsafe nose gear; -soft pedal feel",
        "locs": "in the|nose gear bay; on the|left main gear; on the|right main gear;"
        "at the|upper drag brace;"
        "on the|nose gear; at the|No. 3 wheel",
    },
    "bleed air": {
        "ata": "36",
        "rot": "pack air cycle machine; turbofan; pack cooling fan; recirculation fan; ram air fan",
        "val": "PRSOV; high-stage valve; trim air valve; pack flow control valve; crossbleed valve;"
        "fan air valve",
        "elx": "bleed monitoring computer; pack temperature controller; overheat sensor loop;"
        "duct pressure transmitter",
        "mec": "precooler; bleed duct; duct coupling; water separator; pack heat exchanger;"
        "check valve flapper",
        "symptoms": "-bleed trip; -hot cabin; pack overheat; -duct leak warning; -cabin fog;"
        "slow cabin climb;"
        "-wet carpet odor; -low duct pressure",
        "locs": "in the|left pack bay; in the|pylon aft section; in the|keel beam area;"
        "in the|right pack bay;"
        "below the|center tank; at|station 610",
    },
    "flight controls": {
        "ata": "27",
        "rot": "flap drive motor; stabilizer trim motor; slat power drive; flap screwjack; rudder trim motor",
        "val": "aileron power control unit; spoiler actuator; elevator servo; yaw damper actuator;"
        "rudder limiter actuator",
        "elx": "flap position sensor; A/P servo amplifier; air data computer; stall warning computer;"
        "rudder trim switch",
        "mec": "flap track fairing; aileron cable; cable tension regulator; elevator hinge fitting;"
        "slat track;"
        "control column shaker",
        "symptoms": "-flap asymmetry; stiff aileron; -A/P disconnect; -uncommanded roll; -rudder buzz;"
        "-slat disagree;"
        "-trim runaway; -control column vibration",
        "locs": "in the|left wing rear spar; at the|No. 4 flap track; in the|tail compartment;"
        "under the|cabin floor;"
        "at|rib 14; on the|right stabilizer",
    },
    "fuel": {
        "ata": "28",
        "rot": "center tank boost pump; override pump; jettison pump; scavenge jet pump; APU fuel pump",
        "val": "crossfeed valve; refuel shutoff valve; spar valve; defuel valve; tank vent float valve",
        "elx": "fuel quantity processor; tank probe; densitometer; refuel panel indicator;"
        "fuel flow transmitter",
        "mec": "fuel filter bowl; tank access door; wing tank sump drain; engine fuel line; heat exchanger;"
        "refuel adapter",
        "symptoms": "-fuel imbalance; fuel drip; -fuel quantity blanking; -low fuel pressure;"
        "-slow refueling;"
        "-fuel odor; -transfer failure",
        "locs": "in the|left dry bay; under the|right wing; at the|refuel station; at|rib 7;"
        "in the|center wing section;"
        "at the|left wing tip",
    },
    "apu": {
        "ata": "49",
        "rot": "APU starter motor; APU cooling fan; APU load compressor; APU oil pump; APU generator",
        "val": "APU bleed valve; inlet door actuator; surge control valve; APU fuel solenoid;"
        "APU inlet guide vane actuator",
        "elx": "APU controller; APU speed pickup; APU EGT thermocouple; APU igniter box;APU oil level sensor",
        "mec": "APU inlet duct; APU exhaust muffler; APU oil cooler; APU mount; APU drain mast;"
        "APU air filter",
        "symptoms": "-APU auto shutdown; -APU oil odor; -failed APU start; APU surge; -high APU EGT;"
        "-torching;"
        "APU whistle",
        "locs": "in the|APU compartment; in the|tail section; at the|APU firewall; at|frame 88;"
        "near the|APU inlet; in the|aft access bay",
    },
    "ice and rain": {
        "ata": "30",
        "rot": "windshield wiper motor; washer pump; rotary ejector; deice distributor motor",
        "val": "wing anti-ice valve; cowl anti-ice valve; deice boot valve; rain repellent valve;"
        "ejector flow control valve",
        "elx": "ice detector; windshield heat controller; pitot probe heater; TAT probe; AOA vane heater",
        "mec": "windshield pane; wing deice boot; wiper arm; pitot mast; static port plate;"
        "drain mast heater boot",
        "symptoms": "-windshield cracking; -airspeed disagree; -wiper chatter; -false ice warning;"
        "-blocked static sense;"
        "-uneven deicing; -arcing of the windshield",
        "locs": "in the|left wing leading edge; at the|captain's windshield; in the|radome area;"
        "at the|right static port;"
        "in the|forward fuselage; on the|left wing root",
    },
    "navigation": {
        "ata": "34",
        "rot": "weather radar drive; antenna pedestal; gyro motor; avionics blower; display cooling fan",
        "val": "pitot drain valve; alternate static valve; equipment cooling valve; avionics exhaust valve",
        "elx": "radio altimeter; IRU; TCAS processor; FMC; transponder; GPS receiver; CVR;"
        "DME interrogator; HF coupler",
        "mec": "radome; antenna doubler; avionics rack tray; radome lightning strip; pitot line;"
        "display bezel",
        "symptoms": "-NAV flag; -radar blanking; -position drift; -altitude split; -loss of transponder;"
        "-map shift;"
        "-nuisance TCAS alert; display dropout",
        "locs": "in the|E/E bay; on the|E2-3 shelf; in the|radome area; in the|upper fuselage crown;"
        "at|station 178;"
        "behind the|center pedestal",
    },
    "cabin": {
        "ata": "25",
        "rot": "lav flush motor; galley extractor fan; seat drive motor; vacuum waste blower; galley chiller",
        "val": "lav shutoff valve; oven steam valve; waste drain valve; potable water valve;"
        "chiller expansion valve",
        "elx": "cabin management unit; reading light power supply; smoke detector; passenger service unit;"
        "oven controller",
        "mec": "galley latch; seat track fitting; escape slide pack; lav door; water heater tank;"
        "cart lift; bin hinge",
        "symptoms": "-lav smoke alarm; -water on the floor; burning smell; -oven overheating;"
        "-dead seat power;"
        "loud rattle; -galley power loss",
        "locs": "in the|aft galley; at|row 22; in the|forward lav; at|door 2 left; in the|mid galley;"
        "above|row 9",
    },
    "pressurization and doors": {
        "ata": "52",
        "rot": "outflow valve motor; cargo door drive unit; door snubber drive; air stair motor",
        "val": "outflow valve; safety valve; negative relief valve; door lock actuator;"
        "cargo door latch actuator",
        "elx": "cabin pressure controller; door warning switch; cabin altitude sensor;"
        "door proximity sensor; slide arm sensor",
        "mec": "door seal; cargo door torque tube; pressure bulkhead plug; door stop fitting;"
        "service door hinge; snubber",
        "symptoms": "-door open warning; -cabin altitude excursion; -whistling; -pressure bumping;"
        "stiff door;"
        "-slow depressurization; -air noise",
        "locs": "at the|aft cargo door; at the|R1 door; in the|bilge; at the|aft pressure bulkhead;"
        "in the|forward cargo bay; at|frame 61",
    },
    "oxygen and fire protection": {
        "ata": "35",
        "rot": "O2 shutoff drive; smoke evacuation fan; detector blower; extraction fan",
        "val": "O2 regulator; pax O2 control valve; bottle shutoff valve; cargo flow valve;"
        "continuous flow unit",
        "elx": "O2 pressure transducer; fire loop; fire detection unit; squib tester;"
        "smoke detector amplifier",
        "mec": "crew mask; O2 bottle; thermal relief disc; halon bottle; O2 supply line; mask stowage box",
        "symptoms": "-low O2 pressure; -false fire bell; -fire loop fault; mask leak; -slow O2 bleed-down;"
        "-cargo smoke warning; -regulator hiss",
        "locs": "in the|O2 bottle bay; in the|aft cargo bay; on the|flight deck; at the|observer station;"
        "in the|left nacelle; at|stringer 12",
    },
}

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
    "WEAR": "-normal wear; -old age; -wear and tear; mechanical wear-out; -internal wear; fatigue failure;"
    "tired seal",
    "INSTALLATION": "-maintenance error; rigging error; bad install; assembly error; -incorrect installation;"
    "mistake at the last shop visit; torque error",
    "FOREIGN_OBJECT": "bird strike; -FOD; -foreign object damage; -ingested debris; -ice ingestion;"
    "stone impact; tool left behind",
    "ELECTRICAL": "wiring fault; bad connector; sensor fault; false indication; chafed wire; ground fault;"
    "intermittent short",
}

ACTIONS: dict[str, str] = {
    "WEAR": "replaced; removed and replaced; changed; overhauled; renewed; R/R'd; exchanged;"
    "scrapped and replaced",
    "INSTALLATION": "reinstalled; re-rigged; refitted; retorqued; reseated; removed and reinstalled;"
    "realigned; replaced",
    "FOREIGN_OBJECT": "cleaned; flushed; blended; replaced; cleared of debris; removed and cleaned; purged;"
    "dressed out",
    "ELECTRICAL": "spliced; repinned; re-terminated; cleaned; rewired; sleeved and re-clamped; repaired;"
    "replaced; dried out",
    "NO_FAULT_FOUND": "reset; reracked; swapped; reseated; cycled; cleaned; reprogrammed; serviced",
}
PRECAUTION_ACTIONS: dict[str, str] = {
    "rot": "lubricated; greased; cleaned; serviced; replaced; retightened; re-lockwired; swapped;"
    "topped up with oil",
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
CABIN_REPORTERS = entries(
    "the lead flight attendant; a passenger in row 14; the purser; a deadheading pilot; the cabin crew"
)
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
