"""The sections with images."""

import dataclasses
import re

import numpy as np

from pipeline.report.neighbours import near_duplicates
from pipeline.report.page import pictures
from pipeline.report.page.principal_components import plane
from tests.helpers import run_facts


def test_the_contact_sheet_shows_the_nearest():
    sample = run_facts.sample()
    section = pictures.contact_sheet(sample, 1000)
    assert "a sample of 24 of 1,000 images" in section and "<summary>12 more</summary>" in section
    first = re.search(r'<ol class="near">(.*?)</ol>', section)[1]
    shown = [(int(row), cosine) for row, cosine in re.findall(r't(\d+)"[^>]*></span>([\d.-]+)<', first)]
    assert shown == [(row, f"{sample.cosines[0, row]:.2f}") for row in sample.nearest[0]]


def test_near_duplicates_are_grouped():
    sample = run_facts.sample()
    sample.vectors[7] = sample.vectors[3] * 2
    section = pictures.near_duplicates(sample, near_duplicates(sample.cosines))
    assert "2 of these 24 images are in 1 group. All cosines within a group are 0.93 or more." in section
    assert "2 images <small>cosine 1.000" in section
    assert re.findall(r"<span title=[^>]*>(\d+).jpg", section) == ["003", "007"]
    assert "No two of these 24 images" in pictures.near_duplicates(sample, [])


def test_groups_and_members_are_bounded():
    sample = run_facts.sample(500)
    sample.vectors[:400] = np.repeat(sample.vectors[:2], 200, axis=0)
    groups = [*near_duplicates(sample.cosines), *([number, number + 1] for number in range(400, 480, 2))]
    section = pictures.near_duplicates(sample, groups)
    assert section.count("<h3>") == 16 and "and 26 more groups" in section
    assert "200 images, 192 of them not shown" in section


def test_every_image_has_a_dot_on_the_map():
    sample = run_facts.sample()
    section = pictures.image_map(sample, *plane(sample.vectors))
    places = [float(value) for value in re.findall(r'c[xy]="([\d.]+)%"', section)]
    assert len(places) == 48 and min(places) >= 4 and max(places) <= 96
    assert section.count('tabindex="0"') == 1


def test_the_map_has_its_second_axis_upwards():
    sample = run_facts.sample(2)
    section = pictures.image_map(sample, np.float32([[-1, -1], [1, 1]]), 0.5)
    assert re.findall(r'cx="([\d.]+)%" cy="([\d.]+)%"', section) == [("4.00", "96.00"), ("96.00", "4.00")]


def test_a_single_image_has_a_picture_alone():
    sample = run_facts.sample(1)
    section = pictures.contact_sheet(sample, 1)
    assert "A single image has no neighbours." in section and "1 images" not in section
    assert pictures.near_duplicates(sample, []) == ""
    assert pictures.image_map(sample, *plane(sample.vectors)) == ""


def test_thumbnails_are_bounded():
    sample = dataclasses.replace(run_facts.sample(500), thumbnails=(b"x" * 3_000, b"") * 250)
    rules = pictures.style(sample, 10_000)
    assert rules.count("\n") == 2 and ".t0{" in rules and ".t2{" in rules and len(rules) <= 10_000
    assert pictures.style(sample, len(rules)) == rules and pictures.style(sample, len(rules) - 1).count("\n") == 1
    assert pictures.style(sample, -1) == "" and pictures.style(sample, 10**7).count("\n") == 250


def test_names_of_images_stay_text_wherever_they_are_shown():
    sample = run_facts.sample(30, prefix=f'/photos/"><script>{run_facts.HOSTILE}')
    sample.vectors[1:4] = sample.vectors[0]
    sections = [
        pictures.contact_sheet(sample, 30),
        pictures.near_duplicates(sample, near_duplicates(sample.cosines)),
        pictures.image_map(sample, *plane(sample.vectors)),
    ]
    for section in sections:
        assert "<script" not in section and "<img" not in section and "&lt;img" in section
        assert not re.search(r'"[^"=<>]*"&gt;', section)
    # Each attribute ends where it should: its quotes are even in number.
    assert all(tag.count('"') % 2 == 0 for section in sections for tag in re.findall(r"<[^>]*>", section))
