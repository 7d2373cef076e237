"""Names of findings as their publications list them, separated by semicolons."""

IMAGENOME = """
lung opacity; airspace opacity; consolidation; infiltration; atelectasis; linear/patchy atelectasis;
lobar/segmental collapse; pulmonary edema/hazy opacity; vascular congestion; vascular redistribution;
increased reticular markings/ild pattern; pleural effusion; costophrenic angle blunting;
pleural/parenchymal scarring; bronchiectasis; enlarged cardiac silhouette; mediastinal displacement;
mediastinal widening; enlarged hilum; tortuous aorta; vascular calcification; pneumomediastinum;
pneumothorax; hydropneumothorax; lung lesion; mass/nodule (not otherwise specified); multiple
masses/nodules; calcified nodule; superior mediastinal mass/enlargement; rib fracture; clavicle fracture;
spinal fracture; hyperaeration; cyst/bullae; elevated hemidiaphragm; diaphragmatic eventration (benign);
sub-diaphragmatic air; subcutaneous air; hernia; scoliosis; spinal degenerative changes; shoulder
osteoarthritis; bone lesion; pneumonia; fluid overload/heart failure; copd/emphysema; granulomatous
disease; interstitial lung disease; goiter; lung cancer; aspiration; alveolar hemorrhage; pericardial
effusion; low lung volumes; rotated; artifact; breast/nipple shadows; skin fold; chest tube; mediastinal
drain; pigtail catheter; endotracheal tube; tracheostomy tube; picc; ij line; chest port; subclavian
line; swan-ganz catheter; intra-aortic balloon pump; enteric tube; sternotomy wires; cabg grafts; aortic
graft/repair; prosthetic valve; cardiac pacer and wires
"""
CHEXPERT = """
Enlarged Cardiomediastinum; Cardiomegaly; Lung Opacity; Lung Lesion; Edema; Consolidation; Pneumonia;
Atelectasis; Pneumothorax; Pleural Effusion; Pleural Other; Fracture; Support Devices
"""
MS_CXR = (
    "Atelectasis; Cardiomegaly; Consolidation; Edema; Lung Opacity; Pleural Effusion; Pneumonia; Pneumothorax"
)
ASG = """
pleural effusion; opacity; pneumothorax; edema; atelectasis; tube; consolidation; enlarged
cardiomediastinum; tip; pneumonia; line; cardiomegaly; fracture; calcification; device; engorgement;
nodule; wire; pacemaker; pleural thicken; marking; scar; hyperinflate; blunt; collapse; emphysema;
aerate; mass; infiltration; obscure; deformity; hernia; drainage; distention; shift; stent; lesion;
hardware; dilation; aspiration
"""


def names(text: str) -> set[str]:
    """Return the names of a list above."""
    return {" ".join(each.split()) for each in text.split(";")}
