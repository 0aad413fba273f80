"""Words and a few dozen textbook facts from which the synthetic twins are put together."""

from __future__ import annotations

DRUGS = (
    "aspirin", "metformin", "atorvastatin", "lisinopril", "amlodipine", "warfarin", "omeprazole", "prednisone",
    "ibuprofen", "insulin", "heparin", "losartan", "simvastatin", "furosemide", "gabapentin", "sertraline",
    "vitamin D", "zinc", "magnesium", "oral iron", "melatonin", "ketamine", "dexamethasone", "colchicine",
)  # fmt: skip
PRACTICES = (
    "early mobilisation", "nurse-led follow-up", "telephone counselling", "daily walking", "a low-salt diet",
    "laparoscopic repair", "routine drainage", "epidural analgesia", "breathing exercises", "a smoking programme",
    "home monitoring", "music therapy", "group education", "night splinting", "delayed cord clamping",
)  # fmt: skip
OUTCOMES = (
    "pain", "mortality", "length of stay", "readmission", "wound infection", "blood pressure", "fatigue", "nausea",
    "bleeding", "stroke", "falls", "anxiety", "relapse", "fever", "blood loss", "delirium", "weight gain", "anaemia",
)  # fmt: skip
PATIENTS = (
    "older adults", "children with asthma", "women after caesarean section", "men with gout", "patients with diabetes",
    "patients after hip surgery", "infants with bronchiolitis", "patients with heart failure", "smokers",
    "patients on dialysis", "adults with migraine", "patients with cirrhosis", "nurses on night shifts",
    "patients with sepsis", "women with breast cancer", "adolescents with depression",
)  # fmt: skip
NAMES = ("Ana", "Ben", "Carla", "Deng", "Emma", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kofi", "Lena", "Mei", "Nora")
THINGS = ("pencils", "apples", "books", "coins", "cards", "stamps", "marbles", "eggs", "tickets", "plates")

FACTS = (
    # condition, its first choice or cause, specialty
    ("anaphylaxis", "adrenaline", "Emergency Medicine"),
    ("hypothyroidism", "levothyroxine", "Endocrinology"),
    ("type 2 diabetes", "metformin", "Endocrinology"),
    ("type 1 diabetes", "insulin", "Endocrinology"),
    ("scurvy", "vitamin C", "Nutrition"),
    ("rickets", "vitamin D", "Nutrition"),
    ("pernicious anaemia", "vitamin B12", "Hematology"),
    ("iron deficiency", "oral iron", "Hematology"),
    ("haemophilia A", "factor VIII", "Hematology"),
    ("gout", "allopurinol", "Rheumatology"),
    ("malaria", "artemisinin", "Infectious Diseases"),
    ("tuberculosis", "isoniazid", "Infectious Diseases"),
    ("syphilis", "penicillin", "Infectious Diseases"),
    ("influenza", "oseltamivir", "Infectious Diseases"),
    ("herpes zoster", "aciclovir", "Infectious Diseases"),
    ("opioid overdose", "naloxone", "Toxicology"),
    ("paracetamol overdose", "acetylcysteine", "Toxicology"),
    ("lead poisoning", "chelation", "Toxicology"),
    ("absence seizures", "ethosuximide", "Neurology"),
    ("Parkinson disease", "levodopa", "Neurology"),
    ("myasthenia gravis", "pyridostigmine", "Neurology"),
    ("bipolar disorder", "lithium", "Psychiatry"),
    ("asthma attack", "salbutamol", "Pulmonology"),
    ("pulmonary embolism", "heparin", "Pulmonology"),
    ("high cholesterol", "atorvastatin", "Cardiology"),
    ("hypertension", "lisinopril", "Cardiology"),
    ("bradycardia", "atropine", "Cardiology"),
    ("glaucoma", "timolol", "Ophthalmology"),
    ("acne", "benzoyl peroxide", "Dermatology"),
    ("scabies", "permethrin", "Dermatology"),
    ("peptic ulcer", "omeprazole", "Gastroenterology"),
    ("hepatic encephalopathy", "lactulose", "Gastroenterology"),
)
