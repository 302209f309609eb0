"""Words of which names are made, two to a name: `torpid-kid`.

Changing one of them changes the prompts that are made with the same seed.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES = _words(
    """
    able absent acid agile airy alert aloof amber ample ancient angry arctic ardent arid ashen astute
    austere avid azure balmy bare bashful basic beady beige bent bitter blank bleak blond blue blunt bold
    bonny bossy brainy brash brave breezy brief bright brisk brittle broad bronze brown bubbly bulky burly
    busy calm candid canny careful casual chatty cheap cheery chilly chunky civil clean clear clever
    cloudy clumsy coarse cold comic cool copper coral cosy covert coy crafty cranky crimson crisp cryptic
    curious curly daft dainty damp dapper daring dark deaf dear decent deep deft dense devout dim direct
    distant docile dotted dreamy drowsy dry dull durable dusky dusty eager early earnest eastern easy edgy
    elastic elder elegant empty equal exact exotic faint fair famous fancy fast feisty fervent fickle
    fierce final fine firm fit flat fleet flexible floral fluent fluffy fond formal frail frank free fresh
    frosty frugal funny fuzzy gallant gaunt gentle giant giddy gilded glad gleeful glossy golden grand
    grave gray greedy green grim gritty groovy grumpy gusty handy happy hardy hasty hazel hazy hearty
    heavy hefty hidden hollow honest huge humble humid hungry hushed husky icy idle indigo inland inner
    ivory jaded jagged jaunty jolly jovial joyful juicy keen kind large late lavish lazy lean level light
    limber limp little lively local lofty lonely long loose loud lovely loyal lucid lucky lunar lush magic
    major maroon marble mellow merry mighty mild minor minty misty mobile modern modest moist moody mossy
    muddy muted narrow native neat nervous nimble noble noisy northern numb oaken oblong ochre odd olive
    opaque open ornate outer oval pale passive patient peachy perky petite pink placid plain playful
    pliant plucky plump polar polite posh potent prickly prim prime private prompt proper proud prudent
    public puffy pungent pure purple quaint quick quiet quirky rapid rare raspy ready regal remote rich
    rigid ripe robust rosy rough round royal ruby rugged rural rusty sable salty sandy scarlet secret
    sedate serene severe shady sharp sheer shiny short shrewd shy silent silky silver simple sincere sleek
    sleepy slender slim slow sly small smart smoky smooth snappy snowy sober social soft solar solemn
    solid sour southern sparse spicy spiky splendid spotty spry square stable stale starry stately steady
    steep stern sticky stiff stocky stormy stout strict strong sturdy suave subtle sudden sunny supple
    swift tacit tame tangy tardy tart tasty taut tawny teal tender tepid terse thick thin thirsty thrifty
    tidy tight timid tiny tired torpid tough tranquil trim true trusty twin upbeat upper urban urgent
    vague valid vast velvet vibrant violet vital vivid vocal warm wary watery wavy weary western wide wild
    windy wintry wise wistful witty wobbly woolly worthy young zany zesty
    """
)
"""Adjectives, each once, in lower-case ASCII letters."""

NOUNS = _words(
    """
    acorn actor adder alcove almond anchor ankle antler anvil apple apron arbor arcade arch armor arrow
    ash atlas attic aunt autumn award badge bagel bakery balcony ballad bamboo banjo banner barge barley
    barn baron barrel basil basin basket bath bay beach beacon bead beak bean bear beaver bell belt bench
    berry birch bishop blanket blossom boat bonnet book boot bottle boulder bow bowl box bracket branch
    bread brick bridge brook broom brush bucket buckle bud bugle bulb bundle bunny bush butler butter
    button cabbage cabin cable cactus cake camel camera camp canal candle cannon canoe canvas canyon cape
    captain cargo carpet carrot cart castle cat cattle cave cedar cellar cello chain chair chalk chapel
    chart cheese cherry chess chest child chimney church cider circle circus city clarinet clay cliff
    cloak clock cloud clover coach coast coat cobbler cobra cocoa coin collar comet compass cook cookie
    cork corn corner cottage cotton couch county cousin cove cow crab cradle crane crater crayon cream
    creek crest cricket crow crown crystal cub cup curtain cushion cymbal cypress daisy dance dancer dawn
    deck deer delta den desert desk dial diary dinner diver dock doctor dog doll dolphin donkey door dove
    dragon drawer dress drum duck dune eagle ear easel echo eel egg elbow elk elm ember engine envelope
    fable fabric falcon farm farmer fawn feast feather fence fern ferry fiddle field fig finch finger fish
    flag flame flask flock flower flute fog forest fork fort fountain fox frog fruit garden garlic gate
    gem geyser ginger giraffe glacier glass globe glove goat goose gorge grain grape grass gravel grove
    guest guitar gull hall hammer hamlet harbor hare harp hat hawk hazelnut heart hedge helmet herb heron
    hill hinge hive holly honey hoof horn horse hotel house hut iris island ivy jacket jaguar jar jasmine
    jelly jewel jockey judge jug juniper kennel kettle key kid king kitchen kite kitten knight knot lace
    ladder lady lagoon lake lamb lamp lane lantern lark lasso laurel lawn leaf lemon lemur lens letter
    lever lily lime linen lion lizard llama lobby lobster locket lodge loom lotus lynx magnet magpie
    mallet mango mantle map maple market mask mast meadow medal melon mentor mill mine mint mirror mitten
    mole monkey moon moose mosaic moss moth motor mountain mouse museum napkin needle nest net newt
    notebook nurse nut oak oar oasis oat ocean olive onion opal orange orchard orchid organ otter oven owl
    oyster paddle page pagoda pail palace palm panda panther paper parade park parrot pasture patch path
    peach peak pear pearl pebble pen pencil penguin pepper piano picture pier pigeon pillar pillow pilot
    pine pint pipe pirate planet plank plate plaza plum pocket poem poet pond pony poplar poppy porch port
    potato prairie prince puffin pumpkin puppet quail quarry quartz queen quill quilt rabbit radish raft
    railway rain raisin ranch raven razor reef ribbon rice riddle ring river road robin rocket roof
    rooster root rope rose rudder rug saddle sail sailor salad salmon salt sandal scarf school scout seal
    seed shark shawl sheep shelf shell shield ship shoe shore shovel shrub sister sketch skirt sled sleeve
    snail sock sofa song soup spade sparrow spear spider spoon spruce squid stable stage star statue
    steeple stone stool stork stove stream street sugar summit sunset swallow swan table tailor teacher
    temple tent thistle thorn thunder tiger timber toad toast tomato torch tower town toy tractor trail
    train tray tree trumpet trunk tulip tunnel turnip turtle twig umbrella uncle valley vase vault veil
    vessel village vine viola violin wagon waiter wall walnut walrus waltz water weasel well whale wheat
    wheel whistle willow wing winter wizard wolf wood wool wren yacht yard zebra zephyr
    """
)
"""Nouns, likewise."""
