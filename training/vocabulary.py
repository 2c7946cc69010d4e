"""Which emoji make up the model's vocabulary: well-known, clearly shaped ones for a small run, all for a large one."""

from __future__ import annotations

import re

from training.pictures import Picture

FACES = (
    r"^(grinning face|smiling face with sunglasses|smiling face with heart-eyes|face with tears of joy|"
    r"crying face|loudly crying face|angry face|enraged face|sleeping face|nerd face|thinking face|winking face|"
    r"cowboy hat face|partying face|zany face|money-mouth face|pleading face|smiling face with halo|"
    r"smiling face with horns|face vomiting|hot face|cold face|exploding head|star-struck|ghost|alien|"
    r"alien monster|robot|clown face|pile of poo|skull|jack-o-lantern|red heart|orange heart|yellow heart|"
    r"green heart|blue heart|purple heart|broken heart|heart on fire|sparkling heart|bomb|"
    r"hundred points|collision|dizzy|ogre|goblin|speech balloon|grinning cat|kissing cat|pouting cat|love letter)$"
)
TRAVEL = (
    r"star|sun|moon|cloud|rain|rocket|car|bus|truck|train|airplane|ship|boat|bicycle|scooter|house|castle|globe|"
    r"fire|snow|umbrella|comet|planet|volcano|mountain|camping|island|tent|helicopter|saucer|tractor|taxi|"
    r"ambulance|police|anchor|wheel|light|hourglass|watch|tornado|lightning|droplet|wave|motorcycle|locomotive|"
    r"canoe|parachute|luggage|fountain|tower|statue"
)
ACTIVITIES = (
    r"ball|trophy|medal|kite|dart|guitar|violin|drum|game|joystick|die|puzzle|teddy|balloon|gift|ribbon|christmas|"
    r"pumpkin|fire|spark|party|art|palette|yarn|crystal|chess|frame|thread|bowling|skate|sled|fishing|boxing|snow|"
    r"ticket|pin|nesting|lantern|wand"
)
OBJECTS = (
    r"crown|hat|cap|glasses|shirt|dress|shoe|boot|sock|glove|bag|gem|ring|lipstick|bell|phone|telescope|"
    r"microscope|battery|laptop|computer|camera|television|radio|book|key|lock|hammer|axe|wrench|magnet|scissors|"
    r"pencil|crayon|paint|envelope|money|coin|bulb|candle|flashlight|bomb|shield|sword|dagger|bow|broom|basket|"
    r"bucket|soap|sponge|toilet|bed|couch|chair|door|mirror|window|saxophone|trumpet|keyboard|accordion|"
    r"microphone|headphone|cake|scroll|newspaper|clipboard|calendar|folder|package|mailbox|ladder|gear|pill|"
    r"syringe|dna|test tube|petri|robot|jeans|scarf|coat|bikini|umbrella|briefcase|backpack|balloon|notebook|"
    r"trash|paperclip|pushpin|magnif|locket|map|compass|screwdriver|saw|brick|plunger|razor|tooth"
)
DROPPED = (
    r"oncoming|waxing|waning|quarter|new moon|tilted|guide dog|service dog|with slash|incoming|low battery|"
    r"airplane (dep|arr)|without|with rain drops|on ground|light rail|tram car|railway car|bullet|"
    r"mountain railway|cableway|trolley|minibus|bus stop|wheelchair|globe with|globe showing (am|as)|place medal|"
    r"^ox$|water buffalo|star of david|^ewe|two-hump|^rat$|^boar|orangutan|bison|chipmunk|badger|front-facing|"
    r"hatching|^wing$|^feather|black bird|^dodo|^goose|lady beetle|cockroach|^fly$|mosquito|rosette|wilted|"
    r"hyacinth|sheaf|leaf flutter|empty nest|flatbread|stuffed|falafel|tamale|^oden|fried shrimp|fish cake|dango|"
    r"moon cake|rice cracker|custard|clinking|tumbler|pouring|beverage box|^mate$|amphora|fork and knife with|"
    r"derelict|house with|night with|sunrise$|sunrise over|behind (small|large|rain)|sun with|dotted|"
    r"eight-pointed|star and crescent|speech|collision|oncom|pine dec|reminder|admission|military|softball|rugby|"
    r"cricket game|martial|mirror ball|lab coat|clutch|flat shoe|hammer and|locked with|green book|orange book|"
    r"blue book|spiral cal|tear-off|open file|linked|petri|couch|bookmark tabs|rolled|closed umbrella|camera with|"
    r"computer disk|telephone rec|poultry|cut of meat|glasses$|pot of food|shallow|canned|roasted|takeout|houses|"
    r"statue|tokyo|japanese|not done|sneez|ogre|goblin|kissing cat|pouting cat|love letter|worm|microbe|ginger|"
    r"olive|beans|pea pod|leafy|dumpling|steaming bowl|curry|cooked rice|shaved|sake|teacup|herb$|snow-capped|"
    r"carousel|wrapped gi|nest with|pensive|arrow|moon face|(raised|lowered) flag"
)
KEPT = r"^(sunglasses|house|statue of liberty|wrapped gift)$"
LEAST = 1000
"""How many emoji there are at least if none is left out."""
WHOLE_GROUPS = (3, 4)
"""Animals and nature, food and drink: emojibase's group numbers."""
CHOSEN = {0: FACES, 5: TRAVEL, 6: ACTIVITIES, 7: OBJECTS, 8: "star"}
"""In these groups, only labels that match."""


def vocabulary(pictures: tuple[Picture, ...], *, everything: bool) -> list[int]:
    """Indices into ``pictures`` of the 3d pictures to learn, in their order; raises ``SystemExit`` if ``everything`` is
    fewer than ``LEAST``."""
    solid = [i for i, picture in enumerate(pictures) if picture.style == "3d"]
    if not everything:
        return [i for i in solid if _well_known(pictures[i])]
    if len(solid) < LEAST:
        raise SystemExit(f"There are pictures of {len(solid):,} emoji, and this recipe is for {LEAST:,} or more.")
    return solid


def _well_known(picture: Picture) -> bool:
    label = picture.label
    if label == "building construction":
        return False
    chosen = CHOSEN.get(picture.group)
    if picture.group not in WHOLE_GROUPS and not (chosen and _matches(chosen, label, at_start=picture.group == 0)):
        return False
    return not re.search(DROPPED, label) or re.search(KEPT, label) is not None


def _matches(pattern: str, label: str, *, at_start: bool) -> bool:
    return (re.match if at_start else re.search)(pattern, label) is not None
