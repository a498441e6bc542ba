# ruff: noqa: E501, RUF100 - one sentence frame per line
"""Sentence frames of the maintenance-report grammar, one sentence per line.

{a|b} picks one alternative (may nest), $SLOT is filled by sentences.py. Slots that mark an answer: $Y
symptom, $PH phase, $WHO reporter, $AC aircraft, $CAUSE confirmed cause, $OUT ruled-out cause, $BY how it was
ruled out, $LOC place of the finding, $FP/$FIX/$REF final part, action and reference, $TEST verification,
$HIST/$HP/$HA/$WHEN history, $MEL deferral, $TSREF troubleshooting reference, $QP/$QA precaution, $AC2 donor.
"""

from __future__ import annotations


def frames(text: str) -> list[str]:
    """The frames, one per line that is not blank."""
    return [line.strip() for line in text.splitlines() if line.strip()]


REPORT = frames("""
$WHO {reported|called in} $Y $PH on $AC.
{On|Aboard} $AC, $Y was {noticed|first noticed} $PH.
$AC {came back|returned} {with a write-up for|with a log entry for} $Y, first seen $PH.
The {pilot report|logbook} for $AC {speaks of|lists} $Y $PH.
$Y {showed up|began|started} $PH{, and the crew ran the checklist|, with nothing else abnormal|}.
$PH, $WHO {noted|became aware of} $Y.
According to $WHO, $Y {set in|developed} $PH.
The crew of $AC {wrote up|logged} $Y.
$AC {diverted|turned back} {because of|on account of} $Y $PH.
It was $WHO who {spotted|first drew attention to} $Y on $AC.
$WHO {asked maintenance to look at|wanted an answer on} $Y seen $PH.
EICAS was {quiet|normal}, yet $WHO {insisted on|described} $Y $PH.
{An EICAS|A status} message came with $Y $PH and {stayed latched|cleared itself|went away with the next power-up}.
$Y was the {complaint|squawk} on arrival, {raised|made} by $WHO.
$AC was {met at the gate|taken out of service} for $Y.
What {began|started} as $Y $PH {ended|finished} with an overweight landing.
The crew described $Y, {worst|strongest} $PH.
$WHO {heard or saw|picked up} $Y $PH and {advised|told} maintenance control.
Maintenance control {was told of|logged} $Y on $AC at 0#SMALL#MIN local.
The {flight|sector} was {uneventful|normal} at first; $PH, however, $Y {appeared|set in}.
Twice $PH, $WHO saw $Y {come and go|for several seconds}.
$Y {kept coming back|recurred} $PH, {so the flight returned|and the crew elected to continue}.
An air turnback on $AC {followed|resulted from} $Y.
{After the flight|On the phone}, $WHO {said|explained} that $Y came on $PH.
For the third {day|sector} running, $AC {arrived with|showed} $Y.
$AC had $Y $PH{, and the QRH was completed|, no other effects}.
The tech log of $AC carries $Y, {reported|entered} by $WHO.
""")
REPORT_TERSE = frames("""
Pilot rpt: $Y $PH.
$AC, {F/C rpts|crew rpts} $Y $PH.
Squawk: $Y, $PH.
$Y noted by $WHO.
{Write-up|Log entry} {on|for} $AC: $Y.
PIREP $AC: $Y $PH, {msg latched|no EICAS msg|msg intermittent}.
{Crew|F/O} {advises|states} $Y $PH.
Defect: $Y{, intermittent|, steady|}, seen $PH.
$AC {AOG|in from line} for $Y.
Rpt from $WHO: $Y $PH.
""")

# --- decisive statements -------------------------------------------------------------------------
DECISIVE = frames("""
{Teardown|The bench|The shop} confirmed $CAUSE in the $P.
{In the end|Finally}, $CAUSE was found $LOC, and {it accounts for|that explains} the whole event.
The root cause {was|is} $CAUSE $LOC.
{Cause|Root cause} confirmed: $CAUSE.
$CAUSE {was confirmed as the cause|proved to be behind it all}.
The {investigation|inquiry} {traced|tracked} the event to $CAUSE $LOC.
{Further digging|A closer look} {brought|turned up} $CAUSE, which {reproduced|matched} the symptom {exactly|every time}.
{Engineering|The lead} {agreed|concluded} that $CAUSE {had caused the event|was to blame}.
With the $P {open|on the bench}, the {mechanic|inspector} found $CAUSE, {enough|more than enough} to produce $Y.
{It took|The answer took} two shifts, but the {culprit|answer} was $CAUSE $LOC.
$CAUSE, {discovered|found} $LOC by the night shift, {is what set the event off|was the real trouble}.
The {true|actual} cause, {established|proven} by test, {was|is} $CAUSE.
{Everything|All the evidence} {points|pointed} to one thing, and the tests proved it: $CAUSE $LOC.
The {defect|trouble} was {finally pinned on|proven to be} $CAUSE.
{Removal|Opening} of the $P {exposed|laid bare} $CAUSE, and {the symptom followed from it|that was the cause}.
$CAUSE in the $P {was responsible|did it}.
{The final report|The closing entry} {gives|names} $CAUSE as the cause.
The event was {down to|the result of} $CAUSE{, nothing more|}.
{What the mechanic found|The finding} $LOC was $CAUSE, and it {explains every symptom|fits the data}.
When the fault came back on test, it was $CAUSE that {made it happen|produced it}.
{The outcome is clear|There is no doubt}: $CAUSE {led to|brought about} $Y.
The {report|file} was closed with $CAUSE {as the established cause|as the proven cause}.
{Found|Confirmed} $CAUSE $LOC, {cause of the reported defect|which gave the reported defect}.
$Y {was caused|had been caused} by $CAUSE.
{Sure enough|As it turned out}, $CAUSE {was there|was sitting} $LOC and {gave|explained} the symptom.
The lab {attributed|ascribed} the event to $CAUSE, {and engineering concurs|with photographs to prove it}.
{Behind|At the bottom of} it all {was|lay} $CAUSE.
The day shift {proved|demonstrated} that $CAUSE had {disabled|upset} the $P.
{Under magnification|In good light} the $P showed $CAUSE, {accepted|recorded} as the cause of the event.
$CAUSE {took|had taken} the $P out.
Tests {isolated|narrowed} the trouble to $CAUSE $LOC, and {correcting it cured|removing it ended} the symptom.
{One thing|A single item} caused the event: $CAUSE.
""")
DECISIVE_TERSE = frames("""
{Fnd|Found} $CAUSE $LOC, cause of write-up.
T/S {fnd|isolated to} $CAUSE.
Shop rpt: $CAUSE confirmed.
Cause: $CAUSE $LOC.
{Confirmed|Verified} $CAUSE {at|in} the $P.
Insp {fnd|revealed} $CAUSE $LOC, fault duplicated with it.
{Dx|Finding}: $CAUSE, confirmed on bench.
Defect due to $CAUSE.
""")
CONTRAST = frames("""
What {looked like|had been written up as} $OUT {turned out to be|proved to be} $CAUSE.
{Not|It was not} $OUT but $CAUSE {was to blame|that caused it}.
{First thoughts|Early talk} of $OUT {gave way|yielded} to the real cause, $CAUSE.
{The crew|The line} {blamed|suspected} $OUT, but $BY {showed|revealed} $CAUSE instead.
$CAUSE $LOC, {rather than|and not} $OUT, {was the cause|explains the event}.
{Although|While} $OUT was {the obvious suspect|everybody's first guess}, the {finding|answer} was $CAUSE $LOC.
{The initial entry|The first write-up} said $OUT; this was {withdrawn|corrected} to $CAUSE after teardown.
$OUT {was ruled out|could be excluded} by $BY, and $CAUSE {was then proven|was found in its place}.
Had it been $OUT, the $Q would have {suffered too|shown it}; it was $CAUSE.
{Instead of|Where the crew expected} $OUT, the mechanic {met|found} $CAUSE $LOC.
The suspicion of $OUT {was wrong|did not survive the teardown}; $CAUSE {did the damage|was the cause}.
{Only after|Once} $OUT had been {eliminated|discounted} did $CAUSE come to light as the cause.
{People|Some} still talk of $OUT, yet the lab {is clear that it was|settled on} $CAUSE.
$CAUSE {mimicked|was mistaken for} $OUT and was the sole cause.
The $P {had not suffered|was free of} $OUT; what it had was $CAUSE.
{Contrary to|Against} the first theory, which was $OUT, the cause was $CAUSE.
""")
DECISIVE_BY_CLASS: dict[str, list[str]] = {
    "WEAR": frames("""
At {#K|over #K} hours {since new|since overhaul}, $CAUSE had {simply brought|finally brought} the $P to the end of its life.
The $P {died of|gave out from} $CAUSE{, as old units do| after long service}.
{Years|Long years} of cycles had left $CAUSE in the $P, and that {caused|produced} $Y.
{Measured|Checked} against limits, the $P was {far below minimum|beyond service limits}: $CAUSE was the cause.
The shop {called it|wrote it off as} {plain|ordinary} end of life, with $CAUSE as the {failure mode|cause}.
Time in service {did it|was the cause}: $CAUSE was {confirmed|measured} in the $P.
The $P had {reached the end of|outlived} its {useful life|service life}, and $CAUSE {finished it|was the result}.
Nobody {did anything wrong|made a mistake}; the $P {just aged|grew old} until $CAUSE {stopped it|let go}.
{Gradual|Slow} decline {over #K cycles|since the last overhaul} ended in $CAUSE and {with it|hence} $Y.
$CAUSE, {typical of a high-time unit|normal for its hours}, was {confirmed|accepted} as the cause.
The $P {wore out|was worn out}, {the shop says|by the shop's account}, with $CAUSE {at the heart of it|as the proof}.
{High time|The calendar} caught up with the $P, where $CAUSE {was confirmed|was the proven cause}.
"""),
    "INSTALLATION": frames("""
Whoever {fitted|worked on} the $P {last time|before} left it with $CAUSE, and that {alone caused|explains} $Y.
$CAUSE, {dating from|left over from} the previous shift's work, {was the cause|caused the event}.
The {task card|work order} had been stamped, but $CAUSE {from that job|from that visit} was the cause.
{The previous install|Work at the last stop} had left $CAUSE in the $P, which {set off|led to} $Y.
{Human factors|Procedure}: a step was {skipped|missed} at the last removal, giving $CAUSE and thus the event.
The $P {itself was sound|was nearly new}; it had been {put together|assembled} with $CAUSE, and that was the cause.
{Comparison|A check} with the drawing {showed|proved} the $P had been {built up|put on} with $CAUSE, cause of the event.
The {last crew to touch|previous work on} the $P {produced|introduced} $CAUSE, and {this caused the report|the event followed}.
A {handover|shift change} in the middle of the job {ended in|led to} $CAUSE, {confirmed|admitted} as the cause.
{Our own|Our} work {caused|is behind} this one: $CAUSE {was left|remained} $LOC at the last visit.
$CAUSE $LOC was {introduced|created} when the $P {went on|was hung}, and it {gave|produced} the symptom.
The event {goes back|traces back} to the last {maintenance visit|shop visit}, where $CAUSE was {introduced|overlooked}.
"""),
    "FOREIGN_OBJECT": frames("""
The $P {had an uninvited guest|bore the marks of an outside object}: $CAUSE was {documented|confirmed} and caused $Y.
$CAUSE, {picked up in service|from outside the aircraft system}, was {present|confirmed} at the $P and {was the cause|stopped it}.
The lab {examined|took samples from} the $P, and $CAUSE {is the confirmed cause|explains it}.
{Nothing in the system had failed|The system had not failed} by itself: $CAUSE at the $P {caused|started} the event.
$CAUSE $LOC {was no theory|was plain to see}; it {jammed|damaged} the $P and caused $Y.
The $P {had been hit|took the hit}: $CAUSE was {confirmed|documented} as the cause.
The {ramp photos|evidence photos} {held|contained} the answer, $CAUSE $LOC.
$CAUSE, which {does not belong|has no business} $LOC, {was the cause|had brought on} $Y.
A {flashlight|mirror} {showed|caught} $CAUSE inside the $P, and {dealing with it|clearing it} {ended|cured} the trouble.
{The intruder|What had stopped the $P} was $CAUSE, {now on file|photographed and logged}.
An {external|outside} agent {harmed|stopped} the $P, namely $CAUSE, and nothing else {contributed|was found}.
The $P was {healthy|in order} until $CAUSE {put an end to that|changed that}, which {the evidence proves|the photos confirm}.
"""),
    "ELECTRICAL": frames("""
The $P {itself tested good|was healthy}; $CAUSE at the $E {had faked|produced} the symptom.
$CAUSE at the $E was {confirmed|measured} and {sent EICAS|fed EICAS} pure fiction.
{Ohmmeter|Meter} readings {went wild|jumped} when the $E $LOC was moved: $CAUSE was the cause.
{The $P was fine|Nothing ailed the $P}, but $CAUSE at the $E {told EICAS otherwise|tripped the logic}.
With {a breakout box|jumpers} at the $E, $CAUSE was {proven|found} and {was the cause|explained the event}.
The {signal|voltage} {dropped out|vanished} at the $E because of $CAUSE, {hence|and so came} $Y.
{Wiggling|Flexing} the $E {brought back|reproduced} the event, and $CAUSE was found there.
{Only the indication was bad|The system had worked all along}: $CAUSE at the $E was the cause.
$Y {was false|never really happened}; $CAUSE at the $E {had made it up|created the indication}.
{Pin-to-pin|Megger} tests {led to|exposed} $CAUSE at the $E, {the confirmed cause|and there lay the cause}.
The $E {carried|had} $CAUSE, which {robbed|starved} the system of its signal and caused the report.
{A time-domain test|A TDR shot} {put|placed} $CAUSE near the $E, cause of the event.
"""),
    "NO_FAULT_FOUND": frames("""
{No fault was found|Nothing was found} with the $P{, on wing or on the bench|}.
The {symptom|complaint} could not be {duplicated|reproduced}, and the aircraft was released {as is|with no defect found}.
All tests {passed|came back in limits}, and the {entry|report} was closed {as could not duplicate|with no fault found}.
$TEST {failed to bring the symptom back|showed nothing wrong}, so the case is closed without a finding.
The $P went to the shop and came back {with a clean bill of health|tagged no fault found}.
{After two days of testing|Despite a full troubleshoot}, no cause {was established|could be established}.
Every {reading|parameter} was normal, and {no defect was confirmed|the event remains unexplained}.
{The bench|The vendor} {could find nothing wrong with|cleared} the $P.
{CND|Could not duplicate}: system {checks good|operates normally}, aircraft returned to line.
{Maintenance|The night shift} was {unable to|never able to} reproduce $Y.
{Try as they might|However hard they looked}, the mechanics {found nothing|came up empty}.
The investigation ended {with no finding|without a cause}.
The $P performed {within limits|flawlessly} in $TEST, and {no defect could be confirmed|the write-up was signed off as not confirmed}.
The $YN {did not recur|never came back}, and the {search|troubleshooting} {yielded nothing|drew a blank}.
{Ops check good|Ops normal}, {no discrepancy noted|no faults stored}, {closed|released} with nothing found.
{Whatever it was|Whatever the crew saw}, it {left no trace|was gone on the ground}, and the file stays open-ended.
{The final entry|The closing entry} {reads|says} {"no defect found"|"system tested satisfactory, nothing found"}.
BITE {was clean|held no codes}, $TEST was normal, and so {no cause can be given|nothing could be confirmed}.
The $P {was exonerated|passed every step}, as was everything else that was tested.
{Engineering|MOC} {accepted|agreed} that no failure could be {proven|shown} anywhere in the system.
The {shop finding|vendor finding} {was|reads} {unit serviceable|no failure confirmed}, and {the line found nothing either|nothing else was at fault}.
After $TEST with normal results, the report was {dismissed|closed} as unconfirmed.
{Three|Four} attempts to {provoke|repeat} the event {were in vain|brought no result}, and no defect is known.
Nothing {abnormal|out of limits} {turned up|came to light} anywhere, and $AC {flew on|went back to service}.
The {cause is unknown|cause was never established}, since the system has {tested good|behaved} ever since.
{No evidence of any defect|No sign of any failure} emerged, {neither on the aircraft nor in the shop|by any method}.
{In short|To sum up}, {a healthy system|a serviceable system} and {an unconfirmed report|a symptom nobody could repeat}.
System {checked IAW|tested to} $REFT and {found fully serviceable|found normal}, {report not verified|unable to verify}.
The {download|QAR file} {does not support|did not bear out} the report, and {the unit is serviceable|no fault exists}.
{As for a cause, there is none on file|A cause was not found}: the $P {works|worked} as designed.
"""),
}

SUPPORT_BY_CLASS: dict[str, list[str]] = {  # evidence that fits the confirmed class
    "WEAR": frames("""
The {unit|item} {had|carried} #K {hours|cycles} {on its tag|since overhaul}.
{Reliability|The planner} will {shorten|review} the overhaul interval, {since others age the same way|given the hours}.
{Measurements|The measurements} were {beyond the service limit|past the reject limit}, {as expected at this age|with #K cycles}.
It was the {oldest|highest-time} unit {in the fleet|on the list}, {overdue for retirement|never overhauled}.
{Nothing else contributed|No one erred}: it had {simply run its time|served its life}.
{A hard time limit|A life limit} {is now proposed|has been requested} for {this part number|this dash number}.
"""),
    "INSTALLATION": frames("""
The {previous|earlier} task card {lacked|is missing} the second signature.
{Quality|The quality desk} {opened an investigation|interviewed the shift} {into the earlier work|that did the earlier job}.
A {procedural|human factors} report was {raised|filed} {against the last visit|about the previous job}.
The {mechanic who did the earlier job|previous shift} {had been interrupted|had no drawing at hand}.
{The illustration|The figure} in the manual will be {made clearer|corrected} to {prevent|avoid} a repeat of the slip.
{Staff|The team} will be {retrained|briefed} on {the correct assembly|the correct build-up}.
"""),
    "FOREIGN_OBJECT": frames("""
{A sweep of the work area|A search of the area} was {requested|ordered} {the same hour|at once}.
The {station manager|safety officer} was {informed|notified}, and a {contamination form|hazard form} was {filed|sent}.
{Samples|Swabs} went to the {lab|materials lab} {for identification|in a sealed bag}.
The {ramp|stand} was {swept|walked} {afterwards|twice}, and {more of the same was collected|bins were emptied}.
A tool and {rag|hardware} count was {ordered|carried out} {across the shift|for all toolboxes}.
{Housekeeping|Ramp cleanliness} {on the stand|in the hangar} will be {audited|stepped up}.
"""),
    "ELECTRICAL": frames("""
{Resistance|The reading} {jumped|rose} from #SMALL ohms to {open|#K ohms} {when moved|on vibration}.
The {signal|voltage} {was clean|returned} as soon as {a jumper was fitted|the line was bypassed}.
{Pin|Continuity} readings before and after are {on the card|attached}.
{The hardware did its job|The mechanism worked} all along; {only the indication lied|EICAS was misled}.
{Swapping units|A new unit} {changed nothing|made no difference}, as {the message stayed with the aircraft|the code stayed}.
The {code|message} {came and went|toggled} {with airframe flexing|with humidity}.
"""),
    "NO_FAULT_FOUND": frames("""
{The aircraft has flown|It has flown} #MIN sectors since without a {repeat|recurrence}.
{Crews|The next crews} were asked to {report|watch for} any repeat.
The {item|entry} will be {monitored|watched} for {ten days|#MIN flights}.
{No parts were used|No parts were consumed} and no adjustment was {needed|made}.
{Readings|All readings} {agreed|matched} with the opposite side {throughout|within one percent}.
{Hot and cold|Repeated} runs gave {the same good result|nothing but normal values}.
"""),
}
