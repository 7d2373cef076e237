"""Content of MS-CXR files, as published."""

import csv
import io

HEADER = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height"
PATH = "files/p10/p10032725/s50331901/{}.jpg"
ROWS = [  # image, category, text, x, y, w, h, split
    ("i1", "Pneumothorax", "large right pneumothorax", 100, 200, 300, 400, "train"),
    ("i2", "Edema", 'hazy, "batwing" edema', 10, 20, 30, 40, "test"),
    ("i1", "Edema", "edema", 1, 2, 3, 4, "train"),
    ("i1", "Pneumothorax", "large right pneumothorax", 1500, 200, 300, 400, "train"),
]


def table(rows=ROWS, split=True):
    """Return the CSV file with these rows, as a binary stream."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER.split(",") + ["split"] * split)
    for image, category, words, *box, own in rows:
        writer.writerow([image, category, words, PATH.format(image), *box, 2000, 1000] + [own] * split)
    return io.BytesIO(text.getvalue().encode())


def coco(rows=ROWS):
    """Return the content of the JSON file with these rows."""
    images = {row[0]: i for i, row in enumerate(rows)}
    categories = {row[1]: i for i, row in enumerate(rows)}
    return {
        "info": {},
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": 2000, "height": 1000, "path": PATH.format(name)}
            for name, i in images.items()
        ],
        "categories": [{"id": i, "name": name} for name, i in categories.items()],
        "annotations": [
            {
                "id": i,
                "image_id": images[image],
                "category_id": categories[category],
                "bbox": box,
                "label_text": text,
                "split": split,
            }
            for i, (image, category, text, *box, split) in enumerate(rows)
        ],
    }
