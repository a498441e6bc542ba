"""The aircraft systems: for each its ATA chapter, parts by kind, symptoms, and locations (all invented; see DATASHEET.md).

The conventions are those of lexicon.py.
"""

from __future__ import annotations

# system -> ATA chapter, parts by kind, symptoms, locations ("preposition|place")
SYSTEMS: dict[str, dict[str, str]] = {
    "hydraulic": {
        "ata": "29",
        "rot": "engine-driven pump; AC motor pump; ram air turbine; power transfer unit;standby hydraulic pump",
        "val": "priority valve; system relief valve; pump shutoff valve; reservoir fill selector valve;bypass valve",
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
        "rot": "N2 tach generator drive; fan module; scavenge pump; air turbine starter; lube pump;HP compressor rotor",
        "val": "anti-ice valve; starter air valve; bleed-off valve; variable stator vane actuator;fuel metering valve",
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
        "val": "IDG disconnect solenoid; IDG oil thermal valve; bus tie contactor; generator breaker;GCU relay",
        "elx": "GCU; bus power control unit; TRU; static inverter; battery charger; current transformer",
        "mec": "main battery; IDG oil cooler; feeder terminal block; external power receptacle;battery vent hose",
        "symptoms": "-generator trip; -flickering of the displays; -bus transfer failure; -IDG oil overheat;"
        "-low battery voltage; electrical burning smell; -frequency swing",
        "locs": "in the|main equipment center; behind the|P6 panel; in the|battery compartment; at|frame 24;"
        "in the|lower nose compartment; below the|avionics rack",
    },
    "landing gear": {
        "ata": "32",
        "rot": "wheel speed transducer drive; inboard wheel bearing; nose wheel; outboard wheel;brake cooling fan",
        "val": "gear selector valve; uplock actuator; nose gear steering actuator; retract actuator;"
        "antiskid valve;"
        "door sequence valve",
        "elx": "PSEU; downlock proximity sensor; antiskid control unit; tire pressure monitor;brake temperature sensor",
        "mec": "torque link; shimmy damper; side stay; main gear strut; brake assembly; tow fitting;gear door hinge",
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
        "val": "PRSOV; high-stage valve; trim air valve; pack flow control valve; crossbleed valve;fan air valve",
        "elx": "bleed monitoring computer; pack temperature controller; overheat sensor loop;duct pressure transmitter",
        "mec": "precooler; bleed duct; duct coupling; water separator; pack heat exchanger;check valve flapper",
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
        "val": "aileron power control unit; spoiler actuator; elevator servo; yaw damper actuator;rudder limiter actuator",
        "elx": "flap position sensor; A/P servo amplifier; air data computer; stall warning computer;rudder trim switch",
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
        "elx": "fuel quantity processor; tank probe; densitometer; refuel panel indicator;fuel flow transmitter",
        "mec": "fuel filter bowl; tank access door; wing tank sump drain; engine fuel line; heat exchanger;refuel adapter",
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
        "val": "APU bleed valve; inlet door actuator; surge control valve; APU fuel solenoid;APU inlet guide vane actuator",
        "elx": "APU controller; APU speed pickup; APU EGT thermocouple; APU igniter box;APU oil level sensor",
        "mec": "APU inlet duct; APU exhaust muffler; APU oil cooler; APU mount; APU drain mast;APU air filter",
        "symptoms": "-APU auto shutdown; -APU oil odor; -failed APU start; APU surge; -high APU EGT;-torching;APU whistle",
        "locs": "in the|APU compartment; in the|tail section; at the|APU firewall; at|frame 88;"
        "near the|APU inlet; in the|aft access bay",
    },
    "ice and rain": {
        "ata": "30",
        "rot": "windshield wiper motor; washer pump; rotary ejector; deice distributor motor",
        "val": "wing anti-ice valve; cowl anti-ice valve; deice boot valve; rain repellent valve;ejector flow control valve",
        "elx": "ice detector; windshield heat controller; pitot probe heater; TAT probe; AOA vane heater",
        "mec": "windshield pane; wing deice boot; wiper arm; pitot mast; static port plate;drain mast heater boot",
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
        "elx": "radio altimeter; IRU; TCAS processor; FMC; transponder; GPS receiver; CVR;DME interrogator; HF coupler",
        "mec": "radome; antenna doubler; avionics rack tray; radome lightning strip; pitot line;display bezel",
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
        "val": "lav shutoff valve; oven steam valve; waste drain valve; potable water valve;chiller expansion valve",
        "elx": "cabin management unit; reading light power supply; smoke detector; passenger service unit;oven controller",
        "mec": "galley latch; seat track fitting; escape slide pack; lav door; water heater tank;cart lift; bin hinge",
        "symptoms": "-lav smoke alarm; -water on the floor; burning smell; -oven overheating;"
        "-dead seat power;"
        "loud rattle; -galley power loss",
        "locs": "in the|aft galley; at|row 22; in the|forward lav; at|door 2 left; in the|mid galley;above|row 9",
    },
    "pressurization and doors": {
        "ata": "52",
        "rot": "outflow valve motor; cargo door drive unit; door snubber drive; air stair motor",
        "val": "outflow valve; safety valve; negative relief valve; door lock actuator;cargo door latch actuator",
        "elx": "cabin pressure controller; door warning switch; cabin altitude sensor;door proximity sensor; slide arm sensor",
        "mec": "door seal; cargo door torque tube; pressure bulkhead plug; door stop fitting;service door hinge; snubber",
        "symptoms": "-door open warning; -cabin altitude excursion; -whistling; -pressure bumping;"
        "stiff door;"
        "-slow depressurization; -air noise",
        "locs": "at the|aft cargo door; at the|R1 door; in the|bilge; at the|aft pressure bulkhead;"
        "in the|forward cargo bay; at|frame 61",
    },
    "oxygen and fire protection": {
        "ata": "35",
        "rot": "O2 shutoff drive; smoke evacuation fan; detector blower; extraction fan",
        "val": "O2 regulator; pax O2 control valve; bottle shutoff valve; cargo flow valve;continuous flow unit",
        "elx": "O2 pressure transducer; fire loop; fire detection unit; squib tester;smoke detector amplifier",
        "mec": "crew mask; O2 bottle; thermal relief disc; halon bottle; O2 supply line; mask stowage box",
        "symptoms": "-low O2 pressure; -false fire bell; -fire loop fault; mask leak; -slow O2 bleed-down;"
        "-cargo smoke warning; -regulator hiss",
        "locs": "in the|O2 bottle bay; in the|aft cargo bay; on the|flight deck; at the|observer station;"
        "in the|left nacelle; at|stringer 12",
    },
}
