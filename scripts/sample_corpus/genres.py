# ruff: noqa: E501, RUF100 - one sentence frame per line
"""Paragraph frames for the longer unlabelled genres of domain.txt (slots as in frames.py)."""

from __future__ import annotations

from sample_corpus.frames import frames

SHOP_INTRO = frames("""
The $P was received from line station {three|two} with a tag reading "$YN".
Incoming inspection of the $P, serial #SMALL#MIN#MIN, showed {intact seals|broken lockwire|transit damage to the crate}.
Unit $P, removed from $AC $WHEN, {was booked in|entered the shop} under order #MIN#MIN.
The customer asked for {test and repair|test only|overhaul} of the $P IAW $CMM.
Time since overhaul was #K hours, time since new {not stated|unknown|on the card}.
The reason for removal was given as $Y, {seen $PH|without further detail}.
Preliminary {test|bench run} as received gave {normal|marginal|unsteady} readings for the first #MIN minutes.
""")
SHOP_BODY = frames("""
Strip-down to module level revealed {light staining|no heat marks|dry bearings|clean passages} around the housing.
Dimensional check {gave|found} #SMALL of 12 features {near|outside} the limits of $CMM.
The {test stand|bench} was calibrated {last month|the same morning}, and readings were repeated three times.
Flow at rated speed was {low|normal|erratic}, with case drain {high|steady|within limits}.
{Parts showing|Items with} $NOTE were {set aside|quarantined} for the engineer.
The housing was cleaned and crack checked, {no indications|one indication inside the blend limit}.
The {housing|cover} was retained, and the {soft goods|seals and packings} were all renewed.
Photographs #SMALL to 12 show the {as-received|stripped} condition of the unit.
A copy of this report goes to {reliability|the powerplant engineer|the warranty desk}.
Warranty was {claimed|refused|not applicable} because {the hours exceed the limit|of the storage time|the seal was broken}.
The {previous|last} shop visit, $WHEN, had been {for the same complaint|for a modification|a simple leak}.
Insulation resistance measured #K megohms {cold|hot}, {no sign of moisture|after drying}.
Modification status was raised to dash #SMALL IAW $SB.
""")
SHOP_END = frames("""
Final test to $CMM was passed and the unit was {released|tagged serviceable}.
Disposition: {repaired|overhauled|tested}, released to stock with a new {tag|certificate}.
The unit is beyond economical repair and was {scrapped|mutilated and scrapped}.
Man-hours booked: #MIN. Turn time #SMALL days.
We recommend that the operator {look at|check} the $Q {at the next visit|for the same condition}.
""")
TRAINING = frames("""
The $P {sits|is mounted|can be reached} $LOC and is {driven|supplied|commanded} through the $Q.
In normal operation the $P {starts|comes on line} when the crew selects AUTO and {stops|shuts off} at #MIN psi.
Remember that a fault of the $Q can look {exactly|very much} like a fault of the $P.
EICAS shows {an advisory|a caution|a status message} only after a delay of #SMALL seconds, so {short events|brief dips} leave no trace.
Students often {mix up|confuse} the $P with the $Q, because both {carry the same color band|share one access panel}.
A {classic|typical} finding in service is $NOTE, which {shows itself as|leads to} $Y.
Never {pry|lever} against the $Q; {it bends easily|the bracket will crack}.
The BITE page lists #SMALL tests, of which {two|three} need hydraulic or pneumatic power.
Before opening the CB, {check|ask} who else works on the aircraft and hang the tag.
Depressurize, wait #MIN minutes, then {crack|loosen} the line nut with a rag over it.
Torque is applied in {two|three} passes {in a star pattern|from the center outward} IAW $REF.
Question for the class: which indication would you {expect|see first} if the $Q {fails open|loses power}?
The MEL lets you go with the $P inoperative {for three days|for ten days}, {provided|as long as} the $Q works.
A trainee once {reported|chased} $Y for a whole shift before he {looked at|thought of} $NOTE.
The dual-channel logic {votes|compares} the two inputs and drops the {lower|unsteady} one.
{Grounding|Bonding} is measured with the milliohm meter, never with {a lamp|a cheap multimeter}.
Wear limits are printed {in the CMM|on the placard|in table #SMALL}, and they are {limits|rejects}, not targets.
Look for {tracks, stains and dust lines|witness marks}; they tell you where $NOTE has been at work.
The system has {one|two} independent {power sources|supplies}, and the standby source covers $YN only in part.
Do not trust a single reading: {swap sides|repeat it hot} and write both values down.
""")
GUIDE = frames("""
Step #SMALL: make sure that the $Q {is powered|is closed|shows no damage}, then go to step #MIN.
If $Y {comes back|is still there}, replace the $P IAW $REF.
If the reading is {below|above} #MIN ohms, suspect $NOTE and do a check of the $E.
Open and close the CB {once|no more than twice}, and watch the {status page|synoptic} for #SMALL seconds.
Compare left and right {channel|side}: a difference of more than #SMALL percent {points to|suggests} $NOTE.
Do not {replace|condemn} the $P before the $E has been checked for $NOTE.
Do the BITE test of the {controller|system} and write down {all codes|every code with its leg}.
Code #MIN-#SMALL: {data lost|no reply|range error} at the $P. Possible causes, in order: $NOTE, $OUT, $HIST.
Examine the area $LOC for $NOTE and {clean|dry} it as necessary.
With the engine at idle, {read|record} pressure at {one|five}-minute intervals.
If {clean|no damage is found}, {close the access|reinstall the cover} and continue with $TSREF.
If the fault is not there, it {was a transient|can be released as no fault found} after $TEST.
Ask the crew: {was it steady or in steps|which displays were affected|did it follow an electrical transfer}?
Known trap: $Y {after rain|after washing|in the first winter flight} is {often|nearly always} $NOTE.
{Caution|Warning}: keep clear of the {surface|door|inlet} while power is applied.
Do $TEST. If satisfactory, {put the aircraft back to its usual condition|sign the card}.
Swap the $P with the opposite side; if the fault {follows|moves}, the unit is bad.
Disconnect the $E and look for {pushed|bent|green} pins with a {10x|strong} lens.
""")
BULLETIN = frames("""
Since {January|spring} {we have received|there have been} #SMALL reports of $Y on the $TYPE fleet.
In {most|four} cases the crew {had|saw} no other indication, {and the flight continued|and two flights turned back}.
{Teardown|Analysis} of #SMALL units shows that $NOTE {dominates|is the leading cause}.
{A smaller share|The rest} is {put down to|explained by} $OUT, and {one|two} remained without a finding.
Operators {should|are asked to} {inspect|look at} the $P {at the next A check|within #MIN days} IAW $SB.
{Crews|Pilots} should {expect|anticipate} $Y {with no EICAS message|together with a status message}.
{Report|Send} findings, {positive or negative|including nil findings}, to the reliability desk.
{This bulletin|This notice} {supersedes|adds to} issue #SMALL and remains valid until {withdrawn|further notice}.
Interim action: {listen for|watch for} {whine|rumble|odor|vibration} {at shutdown|on the walkaround}.
{Please|Kindly} do not {swap|rob} units between aircraft without a call to maintenance control.
The {vendor|manufacturer} has {changed|improved} the {material|process|drawing} from serial #SMALL#MIN#MIN on.
One event {deserves|merits} a closer look: $AC had $Y $PH, and $CAUSE was confirmed only {at the second visit|in the shop}.
{Human factors|Fatigue} {played|may have played} a part: the {task|shift} {ran over|was interrupted} {twice|for #MIN minutes}.
{Spares|Kits} will be {on the shelf|available} {in May|by the end of the quarter}, {one per base|two per base}.
Ramp staff {walk|sweep} the {stand|taxi lane} {before each arrival|twice a shift}, because $NOTE {costs money|hurts people}.
""")
HANDOVER = frames("""
$AC: $Y, {still open|work in progress}, $P {ordered|on the way}, ETA {0400|tomorrow}.
$AC: $FP $FIX IAW $REF, {needs|waiting for} $TEST.
$AC: {deferred|carried} under $MEL, {#SMALL days left|expires Friday}.
$AC: {access panels|panels} off $LOC, {do not power up|tag on the CB}.
$AC: crew {wrote up|mentions} $Y $PH, BITE {clean|not done yet}, start with $TSREF.
$AC: $CAUSE {found|confirmed} $LOC, {photos sent|engineering informed}, awaiting {disposition|a repair scheme}.
$AC: {checked for|looked for} $OUT, {none found|nil}, {keep an eye on it|closed}.
$AC: {tire pressures|oils} done, {#SMALL quarts added|no uplift}, {nothing else|daily check open}.
Tooling: {the torque wrench|the borescope|the breakout box} is {out for calibration|at the other hangar}, use the {spare|old one}.
Manpower: {two|three} {short|on training}, {overtime approved|no overtime}.
{Stores|Stores desk}: $P {on back order|arrived, not inspected}, $Q {two on the shelf|none left}.
{Weather|Met}: {frost|snow showers|heavy rain} after {0200|midnight}, {deicing crew called|sweepers ready}.
{Safety|Note}: {oil on the floor|a trip hazard} at {dock 2|bay 4}, {cleaned up|cones placed}.
$AC: {engine run|high-power run} booked for {0330|0500}, {tug and fire cover|headset man} needed.
$AC: no fault found after $TEST, {released|ready for service}.
""")
