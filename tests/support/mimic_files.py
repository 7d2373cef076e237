"""Content of MIMIC-CXR-JPG tables, as published."""

METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate\n"
    "02aa804e-bde0afdd,10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506\n"
    "174413ec-4ec4c1f7,10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,2544,21800506\n"
    "2a2277a9-b0ded155,10000764,57375967,,,2544,3056,21300101\n"
)
SPLIT = (
    "dicom_id,study_id,subject_id,split\n"
    "02aa804e-bde0afdd,50414267,10000032,train\n"
    "2a2277a9-b0ded155,57375967,10000764,validate\n"
)
