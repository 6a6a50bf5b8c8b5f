//! What the sample set talks about: plain household knowledge, written for it.
//!
//! `{0}` in a template is the subject, `{1}` to `{3}` are its facts.

/// One field of knowledge: three questions about each of its subjects.
pub(super) struct Topic {
    /// The questions.
    pub(super) questions: [&'static str; 3],
    /// The answer to each, one sentence.
    pub(super) answers: [&'static str; 3],
    /// What to do next, for each question.
    pub(super) steps: [&'static str; 3],
    /// Subject and facts.
    pub(super) subjects: [[&'static str; 4]; SUBJECTS],
}

/// Subjects of a topic.
pub(super) const SUBJECTS: usize = 14;

/// All topics.
pub(super) const TOPICS: [&Topic; 12] = [
    &PLANTS, &DISHES, &STAINS, &REPAIRS, &SKILLS, &EXERCISES, &TRIPS, &PETS, &LETTERS, &COUNTRIES,
    &ANIMALS, &DEVICES,
];

const PLANTS: Topic = Topic {
    questions: [
        "How often should I water {0}?",
        "Where should I keep {0} at home?",
        "How do I see that {0} is unhappy?",
    ],
    answers: [
        "Water {0} {1}, when the top of the soil is dry.",
        "Keep {0} {2}.",
        "You see it when {3}.",
    ],
    steps: [
        "push a finger into the soil and water now if it is dry",
        "move the pot there today and turn it once a week",
        "look at the leaves tonight and change the watering first",
    ],
    subjects: [
        [
            "a basil plant",
            "every two days",
            "on a sunny window sill",
            "its leaves hang down by noon",
        ],
        [
            "a cactus",
            "every three weeks",
            "in full sun, near a south window",
            "its base turns soft and brown",
        ],
        [
            "a fern",
            "every three days",
            "in a bright bathroom without direct sun",
            "its tips turn brown and crisp",
        ],
        [
            "an orchid",
            "once a week",
            "at an east window",
            "its leaves wrinkle and its roots turn grey",
        ],
        ["an aloe", "every two weeks", "on a bright sill", "its leaves turn thin and curl inwards"],
        [
            "a peace lily",
            "once a week",
            "in light shade, away from radiators",
            "the whole plant flops over",
        ],
        [
            "a tomato plant",
            "every day in summer",
            "on a sunny balcony",
            "its lower leaves turn yellow",
        ],
        [
            "a rubber tree",
            "every ten days",
            "in a bright corner out of the draught",
            "it drops its lower leaves",
        ],
        [
            "a mint plant",
            "every two days",
            "in a cool kitchen with morning sun",
            "its stems grow long and thin",
        ],
        [
            "a spider plant",
            "once a week",
            "in a hanging pot near a window",
            "its leaf tips turn brown",
        ],
        [
            "a rosemary bush",
            "once a week",
            "outdoors in full sun",
            "its needles turn pale and fall",
        ],
        [
            "a snake plant",
            "every three weeks",
            "almost anywhere, even in a dim hall",
            "its leaves turn soft at the bottom",
        ],
        [
            "a lemon tree",
            "twice a week in summer",
            "in the sunniest place you have",
            "its leaves turn yellow between the veins",
        ],
        ["an ivy", "every five days", "in a cool and bright hall", "its leaves turn dry and dusty"],
    ],
};

const DISHES: Topic = Topic {
    questions: [
        "How long do I cook {0}?",
        "How can I tell when {0} will be ready?",
        "What goes wrong most often with {0}?",
    ],
    answers: ["It takes {1}.", "It is ready when {2}.", "The usual mistake is {3}."],
    steps: [
        "set a timer before you start and lay out a plate",
        "test it two minutes before the time is up",
        "read the recipe once to the end, then begin",
    ],
    subjects: [
        [
            "brown rice",
            "forty minutes on a low heat",
            "the water is gone and the grains are soft",
            "lifting the lid too early",
        ],
        [
            "a soft egg",
            "six minutes in boiling water",
            "the white is firm and the yolk still runs",
            "starting with a cold pan",
        ],
        [
            "spaghetti",
            "nine minutes in salted water",
            "it bends but still has some bite",
            "using too little water",
        ],
        [
            "red lentils",
            "fifteen minutes at a simmer",
            "they fall apart under a spoon",
            "adding the salt too early",
        ],
        [
            "roast potatoes",
            "fifty minutes in a hot oven",
            "they are brown and rattle in the pan",
            "crowding the tray",
        ],
        [
            "porridge",
            "five minutes with a stir now and then",
            "it falls slowly from the spoon",
            "walking away from the pot",
        ],
        [
            "a baked salmon",
            "fifteen minutes in the oven",
            "it flakes when you press it with a fork",
            "leaving it in until it is dry",
        ],
        [
            "vegetable soup",
            "half an hour at a simmer",
            "the carrots give way to a knife",
            "boiling it hard",
        ],
        [
            "pancakes",
            "two minutes on each side",
            "bubbles open on the top",
            "turning them too early",
        ],
        [
            "bean chilli",
            "three quarters of an hour at a simmer",
            "the sauce coats a spoon",
            "adding the beans too late",
        ],
        [
            "mashed potatoes",
            "twenty minutes until the potatoes are soft",
            "a knife slides in without force",
            "using cold milk",
        ],
        [
            "an apple pie",
            "fifty minutes in the oven",
            "the crust is brown and the juice bubbles",
            "cutting it while it is hot",
        ],
        [
            "couscous",
            "five minutes under a lid",
            "all the water is soaked up",
            "stirring it with a spoon and not a fork",
        ],
        [
            "fried onions",
            "twenty minutes on a low heat",
            "they are soft and golden",
            "turning the heat up to save time",
        ],
    ],
};

const STAINS: Topic = Topic {
    questions: [
        "How do I get {0} out of a shirt?",
        "What should I never do with {0} on cloth?",
        "Which household product helps against {0}?",
    ],
    answers: ["Use {1} and {2}.", "Never {3}.", "The best help against {0} is {1}."],
    steps: [
        "try it on a hidden seam before you treat the spot",
        "blot the spot with a clean cloth right now",
        "put some on the spot and wait ten minutes",
    ],
    subjects: [
        ["red wine", "salt and cold water", "rinse until it runs clear", "rub it with a hot cloth"],
        [
            "coffee",
            "cold water and dish soap",
            "dab from the edge inwards",
            "put it into the dryer before it is gone",
        ],
        ["blood", "cold water", "soak it for an hour", "use hot water, which sets it"],
        ["grass", "white vinegar", "brush it in gently", "bleach it at once"],
        [
            "chocolate",
            "dish soap",
            "scrape first and rinse from the back",
            "spread it with a wet thumb",
        ],
        ["ink", "rubbing alcohol", "dab with a white cloth", "pour water over it"],
        [
            "candle wax",
            "ice and a dull knife",
            "lift it off when it is hard",
            "pull at it while it is warm",
        ],
        [
            "tomato sauce",
            "cold water and lemon juice",
            "rinse from the back",
            "wash it hot on the first try",
        ],
        ["cooking oil", "dish soap", "work it in and rinse warm", "let it dry overnight"],
        ["mud", "a dry brush", "brush it off before you wash", "wipe it while it is wet"],
        ["chewing gum", "ice", "freeze it and snap it off", "stretch it away with warm fingers"],
        ["sweat", "baking soda and water", "leave the paste on for an hour", "iron over it"],
        ["mustard", "dish soap and vinegar", "dab it and rinse cold", "use hot water or ammonia"],
        [
            "black tea",
            "white vinegar and water",
            "soak it for half an hour",
            "leave it until the weekend",
        ],
    ],
};

const REPAIRS: Topic = Topic {
    questions: [
        "Why do I have {0}?",
        "How can I fix {0} myself?",
        "What do I need to deal with {0}?",
    ],
    answers: ["The usual cause is {1}.", "In most cases you only {2}.", "All you need is {3}."],
    steps: [
        "look at that part first and take a photo of it",
        "clear the space around it and keep half an hour free",
        "find it in the house or borrow it from a neighbour",
    ],
    subjects: [
        [
            "a dripping tap",
            "a worn washer",
            "close the water and change the washer",
            "a spanner and a new washer",
        ],
        [
            "a squeaking door",
            "a dry hinge",
            "put two drops of oil on each hinge",
            "a small can of oil",
        ],
        [
            "a slow drain",
            "hair and soap in the pipe",
            "lift out the plug and pull the hair away",
            "a bent wire and hot water",
        ],
        [
            "a wobbly table",
            "a leg that is a little short",
            "tighten the legs and put felt under one",
            "a screwdriver and some felt",
        ],
        [
            "a flat bicycle tyre",
            "a thorn in the tube",
            "find the hole and glue a patch on it",
            "tyre levers and a patch set",
        ],
        [
            "a stuck drawer",
            "rough runners",
            "take it out and rub the runners with wax",
            "a plain candle",
        ],
        [
            "a cold radiator",
            "air inside it",
            "open the valve until water comes",
            "a radiator key and a cup",
        ],
        [
            "a loose screw in wood",
            "a hole that has grown",
            "fill the hole with glue and a match",
            "wood glue and matches",
        ],
        [
            "a draughty window",
            "an old seal",
            "peel off the old strip and press on a new one",
            "a roll of foam tape",
        ],
        [
            "a scratched floor",
            "grit under a chair",
            "rub wax of the same colour into it",
            "floor wax and a soft cloth",
        ],
        [
            "a noisy fridge",
            "dust at the back",
            "pull it forward and clean the grille",
            "a vacuum cleaner",
        ],
        [
            "a hole in the wall",
            "an old nail",
            "fill it, let it dry and sand it flat",
            "filler and fine sandpaper",
        ],
        [
            "a toilet that runs",
            "a flap that does not close",
            "clean the flap and straighten its chain",
            "a cloth and five minutes",
        ],
        [
            "a torn hem",
            "a broken thread",
            "sew it again with small stitches",
            "a needle and matching thread",
        ],
    ],
};

const SKILLS: Topic = Topic {
    questions: [
        "How long should I practise {0} each day?",
        "How do I start with {0}?",
        "What do beginners get wrong in {0}?",
    ],
    answers: ["Practise {0} for {1} a day.", "Start with {2}.", "Most beginners {3}."],
    steps: [
        "choose a fixed hour and begin this evening",
        "do it once today, even if it goes badly",
        "record yourself once and watch for just that",
    ],
    subjects: [
        ["juggling", "ten minutes", "one ball from hand to hand", "throw too low and too fast"],
        [
            "the guitar",
            "twenty minutes",
            "two chords and a slow change",
            "press the strings too hard",
        ],
        ["touch typing", "fifteen minutes", "the middle row of keys", "look down at their hands"],
        [
            "drawing",
            "half an hour",
            "a cup, only its outline",
            "draw what they know and not what they see",
        ],
        [
            "chess",
            "twenty minutes",
            "simple endings with few pieces",
            "bring the queen out too early",
        ],
        ["swimming", "thirty minutes", "breathing out under water", "lift the head too high"],
        [
            "Spanish",
            "twenty minutes",
            "fifty words for your own kitchen",
            "read too much and speak too little",
        ],
        ["singing", "fifteen minutes", "long notes on one breath", "breathe only into the chest"],
        ["knitting", "half an hour", "a square of plain stitches", "pull every stitch too tight"],
        ["public speaking", "ten minutes", "a talk of one minute to a friend", "speak too fast"],
        ["running", "twenty minutes", "one minute of running and one of walking", "start too fast"],
        ["photography", "fifteen minutes", "one object in morning light", "stand too far away"],
        [
            "mental arithmetic",
            "five minutes",
            "adding pairs of small numbers",
            "skip the easy ones",
        ],
        ["handwriting", "ten minutes", "rows of the same letter", "grip the pen too hard"],
    ],
};

const EXERCISES: Topic = Topic {
    questions: [
        "How many {0} should a beginner do?",
        "What are {0} good for?",
        "How do I do {0} properly?",
    ],
    answers: ["Begin your {0} with {1}.", "Doing {0} trains {2}.", "The rule is to {3}."],
    steps: [
        "do one slow round now and write the number down",
        "add them to your next walk or warm-up",
        "do three of them in front of a mirror",
    ],
    subjects: [
        ["squats", "two rounds of ten", "the thighs and hips", "keep the heels on the floor"],
        [
            "push-ups",
            "two rounds of five against a table",
            "the chest and arms",
            "keep the body in one line",
        ],
        [
            "lunges",
            "two rounds of eight a side",
            "the legs and balance",
            "keep the front knee above the foot",
        ],
        [
            "planks",
            "three holds of twenty seconds",
            "the belly and back",
            "pull the belly in and breathe",
        ],
        [
            "calf raises",
            "two rounds of fifteen",
            "the lower legs",
            "rise slowly and come down slowly",
        ],
        [
            "sit-ups",
            "two rounds of eight",
            "the belly",
            "lift with the belly and not with the neck",
        ],
        [
            "jumping jacks",
            "three rounds of twenty",
            "the heart and lungs",
            "land softly on the toes",
        ],
        ["step-ups", "two rounds of ten a side", "the thighs", "push through the whole foot"],
        [
            "shoulder circles",
            "two rounds of ten each way",
            "the neck and shoulders",
            "make the circles wide and slow",
        ],
        [
            "hip bridges",
            "two rounds of twelve",
            "the hips and lower back",
            "lift until knees and shoulders form a line",
        ],
        [
            "wall sits",
            "three holds of fifteen seconds",
            "the thighs",
            "keep the whole back on the wall",
        ],
        ["arm swings", "two rounds of twenty", "the shoulders", "let them swing without force"],
        [
            "mountain climbers",
            "three rounds of ten",
            "the belly and the heart",
            "keep the hips low",
        ],
        [
            "toe touches",
            "two rounds of ten",
            "the back of the legs",
            "bend slowly and leave the knees loose",
        ],
    ],
};

const TRIPS: Topic = Topic {
    questions: [
        "What must I not forget for {0}?",
        "What should I wear for {0}?",
        "When should I set off for {0}?",
    ],
    answers: ["Do not forget {1}.", "Wear {2}.", "For {0}, set off {3}."],
    steps: [
        "lay it beside the door now",
        "hang the clothes over a chair this evening",
        "set your alarm and tell whoever comes along",
    ],
    subjects: [
        [
            "a day hike",
            "a litre of water",
            "boots that you have worn before",
            "by eight, while it is cool",
        ],
        [
            "a day at the beach",
            "sun cream",
            "a hat and a loose shirt",
            "before ten, to find a place",
        ],
        [
            "a long flight",
            "your passport",
            "soft layers and warm socks",
            "three hours before it leaves",
        ],
        [
            "a picnic",
            "a blanket and a knife",
            "clothes that may get grass on them",
            "an hour before noon",
        ],
        ["a museum visit", "the ticket on your phone", "flat shoes", "right when it opens"],
        ["a camping weekend", "a torch", "wool and a rain jacket", "on Friday right after lunch"],
        [
            "a bicycle tour",
            "a pump and a patch set",
            "gloves and a helmet",
            "early, before the wind rises",
        ],
        [
            "a train journey",
            "something to eat",
            "a jacket, as the air is cold",
            "half an hour before the train",
        ],
        [
            "a winter walk",
            "a flask of tea",
            "two thin pairs of socks",
            "at noon, when it is warmest",
        ],
        [
            "a wedding",
            "the card and the gift",
            "shoes that you can dance in",
            "an hour before you need to",
        ],
        [
            "a trip to the zoo",
            "coins for the lockers",
            "light layers",
            "at nine, when the animals are fed",
        ],
        [
            "a boat trip",
            "tablets against seasickness",
            "a windproof jacket",
            "forty minutes before it casts off",
        ],
        [
            "a job interview",
            "two copies of your letter",
            "what the team wears, a little neater",
            "so that you are ten minutes early",
        ],
        [
            "a concert",
            "earplugs",
            "comfortable shoes and one layer",
            "an hour before the doors open",
        ],
    ],
};

const PETS: Topic = Topic {
    questions: [
        "What should I feed {0}?",
        "How much room will {0} need?",
        "How often do I clean up after {0}?",
    ],
    answers: ["Feed {0} {1}.", "It needs {2}.", "Clean up after {0} {3}."],
    steps: [
        "write a feeding plan and put it on the fridge",
        "measure the space at home before you buy anything",
        "put the first three dates into your calendar",
    ],
    subjects: [
        [
            "a rabbit",
            "hay all day and some fresh greens",
            "at least four square metres",
            "every second day",
        ],
        ["a hamster", "grains and a little vegetable", "a cage a metre long", "once a week"],
        [
            "a goldfish",
            "a pinch of flakes once a day",
            "a hundred litres of water",
            "every week, a third of the water",
        ],
        ["a cat", "wet food twice a day", "a flat with high places to climb", "every day"],
        [
            "a small dog",
            "two meals a day at fixed times",
            "a basket and three walks a day",
            "on every walk",
        ],
        [
            "a budgie",
            "seeds and some greens",
            "a wide cage and an hour of flight",
            "every two days",
        ],
        [
            "a guinea pig",
            "hay and vegetables with vitamin C",
            "two square metres for a pair",
            "every second day",
        ],
        ["a tortoise", "wild herbs", "a garden in summer", "every day, in a minute"],
        [
            "a corn snake",
            "a thawed mouse every ten days",
            "a terrarium as long as the snake",
            "whenever you see something",
        ],
        ["a canary", "seeds and a slice of apple", "a cage wide enough to fly", "twice a week"],
        ["a rat", "mixed grains and vegetables", "a tall cage for at least two", "twice a week"],
        ["a hen", "grain and kitchen greens", "ten square metres of run", "once a week"],
        ["a pony", "hay and grass", "a paddock and a friend", "every day"],
        ["a ferret", "meat four times a day", "a room to run in each day", "every day"],
    ],
};

const LETTERS: Topic = Topic {
    questions: ["How long should {0} be?", "How do I begin {0}?", "How do I end {0}?"],
    answers: ["Keep {0} to {1}.", "Begin with {2}.", "End with {3}."],
    steps: [
        "write it in one go and cut a third tomorrow",
        "write only that first sentence now",
        "write the last line first and keep it",
    ],
    subjects: [
        ["a thank-you note", "four sentences", "what you were given", "what you will do with it"],
        [
            "a letter of complaint",
            "half a page",
            "the date and the order number",
            "what you expect and by when",
        ],
        ["a birthday card", "three lines", "one memory that you share", "a wish for the year"],
        ["a job application", "one page", "the work that you want to do", "when you can start"],
        [
            "an invitation",
            "five lines",
            "what is celebrated",
            "the day by which you need an answer",
        ],
        ["an apology", "three sentences", "what you did, without a but", "what you will do now"],
        ["a travel diary entry", "ten lines", "the first thing that you saw", "a sound or a smell"],
        ["a meeting summary", "six points", "what was decided", "who does what until when"],
        ["a short speech", "three minutes", "a small story", "one sentence to remember"],
        [
            "a product review",
            "five sentences",
            "what you use it for",
            "whom you would advise to buy it",
        ],
        ["a love letter", "one page", "a moment that you recall", "a plan for the next one"],
        ["a school report", "two pages", "the question that it answers", "what is still unknown"],
        [
            "an email to a landlord",
            "six lines",
            "the address and the problem",
            "two dates that suit you",
        ],
        ["a farewell card", "four lines", "how you met", "a way to stay in touch"],
    ],
};

const COUNTRIES: Topic = Topic {
    questions: [
        "What is the capital of {0}?",
        "Which language helps most in {0}?",
        "How do people pay in {0}?",
    ],
    answers: [
        "The capital of {0} is {1}.",
        "In {0} it is {2} that helps most.",
        "In {0} people pay with {3}.",
    ],
    steps: [
        "find {1} on a map and look at what lies around it",
        "learn to say hello and thank you",
        "look up today's rate before you change money",
    ],
    subjects: [
        ["France", "Paris", "French", "the euro"],
        ["Japan", "Tokyo", "Japanese", "the yen"],
        ["Brazil", "Brasilia", "Portuguese", "the real"],
        ["Egypt", "Cairo", "Arabic", "the Egyptian pound"],
        ["Norway", "Oslo", "Norwegian", "the Norwegian krone"],
        ["Kenya", "Nairobi", "Swahili", "the Kenyan shilling"],
        ["Portugal", "Lisbon", "Portuguese", "the euro"],
        ["Mexico", "Mexico City", "Spanish", "the Mexican peso"],
        ["Poland", "Warsaw", "Polish", "the zloty"],
        ["Thailand", "Bangkok", "Thai", "the baht"],
        ["Greece", "Athens", "Greek", "the euro"],
        ["Peru", "Lima", "Spanish", "the sol"],
        ["Hungary", "Budapest", "Hungarian", "the forint"],
        ["Morocco", "Rabat", "Arabic", "the dirham"],
    ],
};

const ANIMALS: Topic = Topic {
    questions: [
        "What does {0} eat in the wild?",
        "Where does {0} live?",
        "How does {0} get through the winter?",
    ],
    answers: ["It eats {1}.", "It lives {2}.", "In winter it {3}."],
    steps: [
        "watch a short film of one that feeds",
        "look for a place near you where one was seen",
        "note the month in which you last saw one",
    ],
    subjects: [
        [
            "a hedgehog",
            "beetles, worms and slugs",
            "in hedges and gardens",
            "sleeps under a pile of leaves",
        ],
        [
            "a red squirrel",
            "seeds, nuts and buds",
            "in woods with old trees",
            "digs up the nuts that it hid",
        ],
        [
            "a barn swallow",
            "insects that it catches in flight",
            "in open country near barns",
            "flies to Africa",
        ],
        ["a brown bear", "berries, roots and fish", "in large quiet forests", "sleeps in a den"],
        [
            "a common frog",
            "flies, snails and worms",
            "near ponds and wet meadows",
            "rests in the mud of a pond",
        ],
        [
            "a red fox",
            "mice, berries and scraps",
            "in woods, fields and towns",
            "grows a thick coat and hunts mice",
        ],
        ["a tawny owl", "mice and small birds", "in old trees", "stays and hunts by ear"],
        [
            "a honey bee",
            "nectar and pollen",
            "in hollow trees and hives",
            "huddles in a warm cluster",
        ],
        [
            "a beaver",
            "bark, twigs and water plants",
            "along slow rivers",
            "eats branches stored under water",
        ],
        [
            "a white stork",
            "frogs, mice and grasshoppers",
            "in wet meadows",
            "flies south in large groups",
        ],
        [
            "a badger",
            "worms, roots and fruit",
            "in a den in the woods",
            "dozes underground for weeks",
        ],
        ["a bat", "moths and mosquitoes", "in attics and hollow trees", "hangs asleep in a cave"],
        [
            "a reindeer",
            "lichen, grass and herbs",
            "in the far north",
            "digs for lichen under the snow",
        ],
        [
            "a ladybird",
            "greenfly and other small insects",
            "on bushes and in gardens",
            "sits in a crack with many others",
        ],
    ],
};

const DEVICES: Topic = Topic {
    questions: [
        "What causes {0}?",
        "What is the first thing to try with {0}?",
        "How do I prevent {0}?",
    ],
    answers: ["The usual cause is {1}.", "First {2}.", "To prevent it, {3}."],
    steps: [
        "check just that before you change anything else",
        "try it now and wait two minutes",
        "put a reminder for it into your calendar",
    ],
    subjects: [
        [
            "a slow laptop",
            "too many programs at the start",
            "restart it",
            "remove what you do not use",
        ],
        [
            "a full phone",
            "old videos",
            "move the videos to a computer",
            "sort your pictures every month",
        ],
        [
            "a paper jam in a printer",
            "damp paper",
            "open the back and pull slowly",
            "store the paper dry and flat",
        ],
        [
            "a weak wireless signal",
            "walls between you and the box",
            "move closer and test again",
            "place the box high and free",
        ],
        [
            "a battery that drains fast",
            "a bright screen",
            "turn the brightness down",
            "keep the charge between a fifth and four fifths",
        ],
        [
            "a forgotten password",
            "one password too many",
            "use the reset link",
            "keep them in a password manager",
        ],
        [
            "a cracked screen",
            "a fall without a case",
            "save your data at once",
            "use a case with raised edges",
        ],
        [
            "blurred video calls",
            "a slow connection",
            "turn off other downloads",
            "use a cable for long calls",
        ],
        [
            "a silent loudspeaker",
            "a wrong output setting",
            "choose the output again",
            "label your cables",
        ],
        [
            "unwanted email",
            "an address that is public",
            "mark it as unwanted",
            "use a second address for shops",
        ],
        [
            "a dirty keyboard",
            "crumbs and dust",
            "turn it over and shake it gently",
            "eat somewhere else",
        ],
        [
            "a lost file",
            "a save in another folder",
            "search for a part of its name",
            "save in one folder only",
        ],
        [
            "a hot computer",
            "dust in the fan",
            "switch it off and clean the vents",
            "keep it off blankets and beds",
        ],
        [
            "a frozen tablet",
            "an app that hangs",
            "hold the power button for ten seconds",
            "install updates when they come",
        ],
    ],
};
