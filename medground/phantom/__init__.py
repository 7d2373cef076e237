"""A synthetic cohort with exact truth: chest X-rays, reports, region boxes and finding boxes.

Every patient is a three-dimensional model (torso, lungs, heart and great vessels, airways, pulmonary vessels,
skeleton, diaphragm, abdomen) that is projected by Beer-Lambert attenuation, so that all boxes come from the
projected structures.

Conventions in this room
- Lengths are centimetres in the patient's frame: x to the patient's left (the right side of the image), y
  down (0 at the lung apices), z towards the front. An attenuation is a line integral, without unit; a path is
  in cm.
- Angles are radians. An image is (H, W), row 0 at the top.
- Each patient has a numpy Generator of their own, from SeedSequence([seed, patient]).
"""
