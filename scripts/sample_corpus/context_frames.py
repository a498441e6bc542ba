# ruff: noqa: E501, RUF100 - one sentence frame per line
"""Sentence frames for what is not the cause: what was ruled out, history, notes, repairs, tests and scenery (slots as in frames.py)."""

from __future__ import annotations

from sample_corpus.frames import frames

RULED_OUT = frames("""
$OUT was {suspected|considered} {at first|early on}, but $BY {came back clean|showed none}.
$BY {ruled out|excluded|eliminated} $OUT.
{The crew|Dispatch} suspected $OUT, {which was not the case|but that was not borne out}.
{No sign|No evidence|No trace} of $OUT {was found|could be found} at the $Q.
{The theory|The idea} of $OUT {was dropped|did not hold up} after $BY.
$OUT {would have fit the symptoms|seemed likely}, yet $BY {spoke against it|proved otherwise}.
{One mechanic|The first shift} {bet on|blamed} $OUT and was {wrong|mistaken}.
$OUT was {not|definitely not} {involved|the cause|a factor}.
{It was not|This was not} $OUT, {as $BY showed|though it looked that way}.
{Fears of|Talk of} $OUT {proved unfounded|came to nothing}.
{Before anything else|First of all}, $BY was used to {exclude|rule out} $OUT.
$OUT was {checked for $LOC2 and not found|looked for $LOC2 without success}.
The {captain's remark|remark} about $OUT was {followed up|pursued} and {found baseless|discounted}.
Nothing {supported|pointed to} $OUT.
{A word on|As to} $OUT: {excluded|ruled out} by $BY.
The {line|outstation} had {entered|diagnosed} $OUT, {an entry later struck out|which turned out to be incorrect}.
{Could it have been|Was it} $OUT? {No|It was not}, {said|answered} the inspector after $BY.
{Because|Since} $BY was {clean|negative}, $OUT can be {excluded|dismissed}.
{Nor was there any|There was no} indication of $OUT $LOC2.
The {usual suspect|prime suspect}, $OUT, was {cleared|absolved}.
{Unlike the event on $AC2|Unlike last time}, $OUT {played no part|was not to blame}.
{MOC|Control} asked about $OUT; {the answer was negative|there was none}.
{A preliminary call|The preliminary finding} of $OUT was {retracted|reversed}.
$OUT {can be|could be} {discounted|excluded} because the $Q was {undamaged|in perfect order}.
The possibility of $OUT was {examined|weighed} and {rejected|set aside}.
{For a while|For an hour}, $OUT {was the working theory|was on everybody's mind}, until $BY {disproved it|ended that}.
""")
RULED_OUT_TERSE = frames("""
{Chkd|Inspected} for $OUT, {none fnd|nil found|neg}.
$OUT ruled out by $BY.
No evidence of $OUT.
$BY {neg for|clean, not} $OUT.
{Susp|Suspected} $OUT, not confirmed.
$OUT {discounted|excluded}, $Q {OK|chks good}.
""")
RULED_OUT_TWO = frames("""
{It was|The trouble was|This was} neither $OUT nor $OUT2.
$BY {ruled out|excluded} both $OUT and $OUT2.
{At first|Initially} $OUT was suspected, {then|and later} $OUT2, but {both were ruled out|neither was confirmed}.
{Checks|Inspections} for $OUT and for $OUT2 were {negative|clean}.
{Both $OUT and $OUT2|$OUT as well as $OUT2} {were excluded|were looked for and not found}.
{There was|The team found} no $OUTN and no $OUT2N.
$OUT {was ruled out first|fell away first}, and $OUT2 was {excluded|discounted} {the day after|by the late shift}.
{Opinions differed|The hangar was split} between $OUT and $OUT2, and {both camps were wrong|neither was right}.
""")

HISTORY = frames("""
The $HP had been $HA $WHEN {for|because of} $HIST.
{Records|The records} show that the $HP was $HA $WHEN {after|owing to} $HIST $LOC3, {a separate matter|an unrelated case}.
$WHEN, $HIST {had led to|was behind} an {earlier|unrelated} event, and the $HP was $HA.
{A previous|An earlier} {entry|card}, now closed, {covers|deals with} $HIST at the $HP.
{The same aircraft|This airframe} had $HIST $LOC3 $WHEN, {long since fixed|already rectified}.
{Last time|On the last occasion}, $HIST had been the cause, and the $HP was $HA.
The {sister ship|sister aircraft} $AC2 had {suffered|seen} $HIST $LOC3 $WHEN.
$AC2 {went through|had} a {similar|comparable} case $WHEN, there {caused by|owing to} $HIST.
{History|Background}: $HP $HA $WHEN for $HIST.
{Our fleet|The fleet} has {a record of|seen} $HIST {on this model|in the past}.
{An old|A closed} {deferral|item} {mentions|concerned} $HIST, and the $HP was $HA for it $WHEN.
Because of $HIST, the $HP was $HA $WHEN, {and has been good since|with no repeats}.
It {may be noted|is worth noting} that the $HP was $HA $WHEN.
{Prior|Previous} visit, $WHEN: $HP $HA for $HIST.
{A year back|In a past case}, $HIST {was found on|had been found on} $AC2.
The $HP, {which was|a unit} $HA $WHEN {following|after} $HIST, was {in good order|not disturbed}.
Reliability {lists|counts} #SMALL removals of the $HP for $HIST{, none of them here|, all on other tails}.
""")
HISTORY_NFF = frames("""
{Two|Three} earlier {write-ups|entries} had {ended|been closed} as could not duplicate.
$WHEN, the {outstation|line} had found nothing wrong and {released|dispatched} the aircraft.
The first {ground test|look} {showed no fault|found nothing}, and {only the second told more|it took a second}.
The $HP had been to the shop $WHEN and {came back|was returned} no fault found.
A {first|quick} check {at the gate|on the ramp} had {turned up nothing|been inconclusive}.
BITE {was clean|stored nothing} on the first attempt.
The last shift {could not reproduce|had been unable to reproduce} it {and signed it off|}.
{Same complaint|The same complaint} $WHEN, {then|at that time} closed with no fault found.
On $AC2 a {like|similar} report was {never confirmed|closed without a finding} $WHEN.
{Earlier|Previous} troubleshooting had {ended without a finding|drawn a blank}.
""")
NOTE = frames("""
{Crews are reminded|A fleet notice reminds crews} to {report|write up} any sign of $NOTEN {at once|without delay}.
{The training card|A poster in the crew room} {warns|warns again} of $NOTE.
{For other cases|In general}, see the chapter on $NOTE.
The {weekly|monthly} bulletin happened to {deal with|discuss} $NOTE, {which has no bearing here|not related to this event}.
{Quality|The auditor} {added|recorded} a {general|standing} {reminder|caution} about $NOTE.
A {spare|loan unit} {was refused|was turned down} at the stores because of $NOTE.
The {next aircraft in line|aircraft in the next bay}, $AC2, had $NOTE {of its own|, another story}.
""")
TROUBLESHOOT = frames("""
{Troubleshooting|T/S} {followed|was done IAW} $TSREF.
{Working through|Following} $TSREF, the {mechanic|night shift} {checked|looked at} the $Q {first|before anything else}.
$TSREF {calls for|asks for} a look at the $Q, {which was normal|which passed}.
The {line|crew chief} {went by|opened} $TSREF and {got as far as step #SMALL|stopped at step #SMALL}.
{Per|As per} $TSREF the $Q was {tested|inspected} and {left in place|found serviceable}.
The $Q $LOC2 {was examined|was looked over} and {was good|showed nothing}.
{Access|Entry} was {gained|made} $LOC2 and the $Q {examined|inspected}.
{A test set|A rig} was {hooked up|connected} $LOC2.
The $Q {read normal|was within limits} {throughout|on both channels}.
Fault isolation IAW $TSREF {took|needed} #MIN minutes.
{MOC|Maintenance control} {sent|quoted} $TSREF {by datalink|over the phone}.
The {mechanic|inspector} {climbed in|crawled in} and spent an hour $LOC2.
""")
MEL = frames("""
The {item|defect} had been {carried|deferred} under $MEL{ for #SMALL days|}.
{Dispatch|Release} was {made|given} under $MEL {pending parts|until night stop}.
$MEL {was applied|had been applied} at the outstation.
{Initially|At first} {deferred|held} IAW $MEL.
{Flown|Operated} for #SMALL sectors under $MEL.
MOC {granted|authorized} $MEL relief {for the return leg|overnight}.
{An open|The} deferral, $MEL, was {cleared|closed} at the same time.
""")
FIX = frames("""
The $FP was $FIX IAW $REF.
{Mechanics|The night crew} $FIX the $FP {per|IAW|in accordance with} $REF.
{To close the report|To clear the entry}, the $FP was $FIX {as laid down in|per} $REF.
$FIX the $FP {IAW|per|ref} $REF{, and $TEST was satisfactory|, $TEST good|}.
{Following|Using} $REF, the {mechanic|team} $FIX the $FP.
The $FP was $FIX, and $TEST {was satisfactory|confirmed the repair|gave normal results}.
{Rectification|Corrective action}: $FP $FIX, {ref|IAW} $REF.
{With the $FP $FIX|Once the $FP was $FIX}, $TEST {ran clean|was passed}.
The {day shift|late shift} $FIX the $FP {on stand|in bay 3 of the hangar} {to|per} $REF.
{After|Following} $TEST the aircraft was released, the $FP having been $FIX.
{It was|The job was} {signed off|closed} {to|IAW} $REF with the $FP $FIX.
{A team|Two mechanics} {travelled|drove} to the aircraft and $FIX the $FP.
{The cure was simple|The remedy was straightforward}: the $FP was $FIX {IAW|to} $REF.
$REF was {followed|used} when the $FP was $FIX.
The $FP {ended up being|was} $FIX {that evening|before the morning wave}.
{Maintenance|The line} $FIX the $FP and {carried out|performed} $TEST{, results normal|}.
""")
FIX_TERSE = frames("""
$FIX $FP IAW $REF.
$FP $FIX, {ops chk good|chks good} after $TEST.
C/A: $FIX $FP {ref|per} $REF, $TEST {satis|good}.
$FP $FIX IAW $REF, {no further defects|nil further}.
{$FIX|Action: $FIX} the $FP, $TEST {c/out satis|carried out, OK}.
""")
TEST = frames("""
$TEST {was carried out|followed}{, results normal| without remarks| and was satisfactory}.
{Post-maintenance|Afterwards}, $TEST was {performed|done} {with good results|and passed}.
{To make sure|As proof}, $TEST {was added|was run}.
{Release|The release} {came after|followed} $TEST.
{The aircraft|It} was {returned to service|released} {after|on completion of} $TEST.
$TEST {satis|good}, {A/C|aircraft} {released|RTS}.
""")
PRECAUTION = frames("""
As a precaution, the $QP was {also|} $QA.
{While there|While working $LOC3}, the {mechanic|team} $QA the $QP, which had not failed.
The $QP $LOC3 was $QA {as well|too}, {though it was not at fault|not being part of the defect}.
{In addition|Unrelated to this}, the $QP $LOC3 was $QA.
{At the same access|On the same card}, the $QP was $QA IAW $REF2.
{Nearby|Next to it}, the $QP was {found dirty|due anyway} and was $QA.
{On request|At the request of MOC}, the $QP was $QA {before departure|overnight}.
{Opportunity maintenance|Good housekeeping}: $QP $QA.
{IAW|Per} $REF2 the $QP was {also|} $QA, a {scheduled|routine} task.
""")
DONOR = frames("""
{Parts|The replacement parts} were {robbed from|taken off} $DON.
{No spare|No spare} was {held|in stock}, so $DON {gave up its unit|acted as donor}.
$AC2 {covered|flew} the {next rotation|evening sectors}.
Passengers {were moved to|left on} $AC2.
The {tooling|test set} {was tied up on|came from} $AC2.
""")
COLOR = frames("""
{The crew|They} had to pump {twice|several times} {to get a normal feel|before the feel came back}.
{Light rain|A light chop} and {a gusty tailwind|a stiff crosswind} {made|kept} the approach {busy|untidy}.
{Nobody|No one} could {panel the matter|convene the board} before Monday, so the {lead|duty manager} decided.
{The handover|The shift handover} was {brief|short} and the {paperwork|task card} {late|incomplete}.
The {stand|gate} was {needed|booked} for another flight, which {cost|lost} an hour.
{Word|News} {filtered|leaked} {back|through} to the station manager {within the hour|by noon}.
{The outstation|That station} has no {test equipment|hangar}, and the aircraft {was towed in|had to wait}.
{Tools|The tools} were {counted|checked in} and the area {left tidy|closed up}.
{The crew|The pilots} {timed out|ran out of duty time}, and the flight {was cancelled|left next morning}.
{Ambient temperature|The temperature} was {minus #SMALL|plus 3#SMALL} and {humidity was high|the wind calm}.
{The captain|The commander} {handed control|gave control} to the first officer {while|and} {running|ran} the checklist.
{Fire services|The airport fire service} {stood by|attended}, {not needed|without intervening}.
{No injuries|No one was hurt}, {and no delay code was assigned|and the delay was #MIN minutes}.
{Photos|Pictures} {are|were} {attached to|filed with} the report.
{The weather radar picture|The forecast} {was benign|had promised a quiet night}.
{The lead|The foreman} had to {fan|wave} the crowd away before {work could begin|anyone could see}.
{The deal|The agreement} was sealed with a handshake: {ready by six|ready for the first wave}.
{The duty manager|The planner} {plugged|filled} the gap in the roster with {two contractors|an agency mechanic}.
{Delay|Total delay}: #MIN minutes.
The {inspector|second inspector} {countersigned|bought off the job} {at dawn|at shift end}.
{The tail was booked|The flight was due} out {at six|in an hour}, which {added|put} pressure on the {shift|team}.
{The board of inquiry|The review board} {met|sat} {once|for an hour}.
""")
