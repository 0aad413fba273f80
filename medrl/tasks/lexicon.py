"""Words and a few dozen textbook facts from which the synthetic twins are put together."""

from __future__ import annotations

import random
from typing import Literal

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

DISEASES: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    # disease and its symptoms, the most telling first, each in English and Chinese
    ("influenza", "流感", (
        ("high fever", "高热"), ("muscle aches", "肌肉酸痛"), ("chills", "寒战"), ("headache", "头痛"),
        ("dry cough", "干咳"), ("exhaustion", "乏力"),
    )),
    ("common cold", "感冒", (
        ("runny nose", "流鼻涕"), ("sneezing", "打喷嚏"), ("blocked nose", "鼻塞"), ("sore throat", "咽痛"),
        ("mild cough", "轻微咳嗽"),
    )),
    ("pneumonia", "肺炎", (
        ("productive cough", "咳痰"), ("fever", "发热"), ("chest pain on breathing", "呼吸时胸痛"),
        ("breathlessness", "气促"), ("chills", "寒战"),
    )),
    ("asthma", "哮喘", (
        ("wheezing", "喘息"), ("tight chest", "胸闷"), ("breathlessness", "气促"), ("cough at night", "夜间咳嗽"),
        ("symptoms after exercise", "运动后发作"),
    )),
    ("pulmonary tuberculosis", "肺结核", (
        ("night sweats", "盗汗"), ("coughing blood", "咯血"), ("weight loss", "体重减轻"), ("cough for weeks", "长期咳嗽"),
        ("low fever in the afternoon", "午后低热"),
    )),
    ("allergic rhinitis", "过敏性鼻炎", (
        ("itchy nose", "鼻痒"), ("sneezing", "打喷嚏"), ("watery discharge from the nose", "清水样鼻涕"),
        ("itchy eyes", "眼痒"), ("blocked nose", "鼻塞"),
    )),
    ("sinusitis", "鼻窦炎", (
        ("facial pressure", "面部胀痛"), ("thick yellow discharge from the nose", "黄脓鼻涕"), ("blocked nose", "鼻塞"),
        ("poor sense of smell", "嗅觉减退"), ("headache", "头痛"),
    )),
    ("tonsillitis", "扁桃体炎", (
        ("swollen tonsils", "扁桃体肿大"), ("pain on swallowing", "吞咽痛"), ("sore throat", "咽痛"), ("fever", "发热"),
        ("swollen neck glands", "颈部淋巴结肿大"),
    )),
    ("migraine", "偏头痛", (
        ("throbbing one-sided headache", "单侧搏动性头痛"), ("sensitivity to light", "畏光"),
        ("flickering vision", "闪光感"), ("nausea", "恶心"), ("sensitivity to noise", "怕吵"),
    )),
    ("iron-deficiency anaemia", "缺铁性贫血", (
        ("pallor", "面色苍白"), ("brittle nails", "指甲脆裂"), ("exhaustion", "乏力"), ("dizziness", "头晕"),
        ("palpitations", "心悸"),
    )),
    ("hyperthyroidism", "甲状腺功能亢进", (
        ("bulging eyes", "眼球突出"), ("intolerance of heat", "怕热"), ("palpitations", "心悸"),
        ("weight loss", "体重减轻"), ("trembling hands", "手抖"),
    )),
    ("hypothyroidism", "甲状腺功能减退", (
        ("intolerance of cold", "怕冷"), ("weight gain", "体重增加"), ("dry skin", "皮肤干燥"), ("constipation", "便秘"),
        ("slow pulse", "心率减慢"),
    )),
    ("diabetes", "糖尿病", (
        ("great thirst", "口渴多饮"), ("passing much urine", "多尿"), ("great hunger", "多食"), ("weight loss", "体重减轻"),
        ("blurred vision", "视物模糊"),
    )),
    ("gastritis", "胃炎", (
        ("burning pain in the upper abdomen", "上腹部灼痛"), ("belching", "嗳气"), ("fullness after meals", "餐后饱胀"),
        ("nausea", "恶心"), ("poor appetite", "食欲不振"),
    )),
    ("reflux disease", "胃食管反流病", (
        ("heartburn", "烧心"), ("acid regurgitation", "反酸"), ("pain behind the breastbone", "胸骨后疼痛"),
        ("hoarseness", "声音嘶哑"), ("cough when lying down", "平卧时咳嗽"),
    )),
    ("gastroenteritis", "肠胃炎", (
        ("watery diarrhoea", "水样腹泻"), ("vomiting", "呕吐"), ("cramping abdominal pain", "腹部绞痛"), ("nausea", "恶心"),
        ("fever", "发热"),
    )),
    ("appendicitis", "阑尾炎", (
        ("pain moving to the lower right abdomen", "转移性右下腹痛"), ("rebound tenderness", "反跳痛"),
        ("poor appetite", "食欲不振"), ("nausea", "恶心"), ("fever", "发热"),
    )),
    ("gallstones", "胆结石", (
        ("colic under the right ribs", "右上腹绞痛"), ("pain after fatty meals", "进食油腻后疼痛"),
        ("pain in the right shoulder", "右肩疼痛"), ("jaundice", "黄疸"), ("vomiting", "呕吐"),
    )),
    ("kidney stones", "肾结石", (
        ("colic in the flank", "腰部绞痛"), ("blood in the urine", "血尿"),
        ("pain spreading to the groin", "疼痛放射至腹股沟"), ("vomiting", "呕吐"), ("restlessness", "坐立不安"),
    )),
    ("cystitis", "膀胱炎", (
        ("burning on urination", "排尿灼痛"), ("urgency", "尿急"), ("frequent urination", "尿频"),
        ("cloudy urine", "尿液混浊"), ("pain above the pubic bone", "耻骨上疼痛"),
    )),
    ("gout", "痛风", (
        ("sudden pain in the big toe", "大脚趾突发疼痛"), ("red swollen joint", "关节红肿"), ("pain at night", "夜间疼痛"),
        ("warm joint", "关节发热"), ("lumps under the skin", "皮下结节"),
    )),
    ("rheumatoid arthritis", "类风湿关节炎", (
        ("morning stiffness", "晨僵"), ("symmetrical joint pain", "对称性关节痛"),
        ("swollen finger joints", "手指关节肿胀"), ("exhaustion", "乏力"), ("low fever", "低热"),
    )),
    ("measles", "麻疹", (
        ("white spots inside the cheeks", "口腔黏膜白斑"), ("rash from the face downwards", "自面部向下的皮疹"),
        ("red eyes", "眼红"), ("fever", "发热"), ("swollen eyelids", "眼睑浮肿"),
    )),
    ("chickenpox", "水痘", (
        ("itchy blisters", "瘙痒性水疱"), ("crusted spots", "结痂"), ("rash on the trunk", "躯干皮疹"), ("fever", "发热"),
        ("poor appetite", "食欲不振"),
    )),
    ("angina", "心绞痛", (
        ("chest pain on exertion", "劳累时胸痛"), ("pain spreading to the left arm", "疼痛放射至左臂"),
        ("relief at rest", "休息后缓解"), ("tight chest", "胸闷"), ("sweating", "出汗"),
    )),
    ("heart failure", "心力衰竭", (
        ("swollen legs", "下肢水肿"), ("breathlessness lying flat", "平卧时气促"), ("waking up breathless", "夜间憋醒"),
        ("exhaustion", "乏力"), ("weight gain", "体重增加"),
    )),
)  # fmt: skip


def case(rng: random.Random, language: Literal["en", "zh"]) -> tuple[str, list[str], list[str]]:
    """A disease, three of its symptoms with the most telling among them, and three other diseases."""
    place = 0 if language == "en" else 1
    chosen = rng.sample(DISEASES, 4)
    disease, *others = [english if language == "en" else chinese for english, chinese, _ in chosen]
    first, *rest = (symptom[place] for symptom in chosen[0][2])
    symptoms = [first, *rng.sample(rest, 2)]
    rng.shuffle(symptoms)
    return disease, symptoms, others
