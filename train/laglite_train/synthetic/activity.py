"""What people and the sky do by the calendar: load, traffic, opening hours, sun, weather.

The calendar is real: weekends are Saturdays and Sundays of the time grid, nights are dark, and
years turn in January. Steps of a day and longer see the same weekday, holiday and season factors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite_train.synthetic.stochastic_paths import (
    autoregression,
    harmonic_profile,
    heavy_tailed_noise,
    one_of,
    smooth_path,
)
from laglite_train.synthetic.time_grid import TimeGrid

Array = NDArray[np.float64]

FIXED_HOLIDAYS = (0, 1, 120, 185, 226, 304, 358, 359, 360, 364)  # days of the year, from 0
TILT = np.radians(23.44)


def bump(hour: Array, centre: float, width: float) -> Array:
    """A von Mises bump on the 24-hour circle, 1 at `centre`; `width` in hours. [length]."""
    concentration = (24 / (2 * np.pi * width)) ** 2
    return np.exp(concentration * (np.cos((hour - centre) * (np.pi / 12)) - 1))


def of_day(random: np.random.Generator, grid: TimeGrid, persistence: float) -> Array:
    """An AR(1) from day to day (step to step, if longer), of about unit variance. [length].

    Within a day it goes straight from one day's value to the next.
    """
    if not grid.has_hours:
        return autoregression(random, grid.length, persistence)
    values = autoregression(random, int(grid.day_index[-1]) + 2, persistence)
    passed = grid.hour / 24
    return (1 - passed) * values[grid.day_index] + passed * values[grid.day_index + 1]


def moving_average(path: Array, width: int) -> Array:
    """The mean of about `width` values around each, at the ends of those there are. [length]."""
    totals = np.concatenate([[0.0], np.cumsum(path)])
    centre = np.arange(len(path))
    first = np.maximum(centre - width // 2, 0)
    last = np.minimum(centre + width // 2 + 1, len(path))
    means: Array = (totals[last] - totals[first]) / (last - first)
    return means


def is_holiday(random: np.random.Generator, grid: TimeGrid) -> NDArray[np.bool_]:
    """Days of each year on which work rests: a random choice of fixed dates. bool [length]."""
    chosen = random.choice(FIXED_HOLIDAYS, size=int(random.integers(2, 9)), replace=False)
    table = np.zeros(367, np.bool_)
    table[chosen] = True
    return table[(grid.year_fraction * 365.25).astype(np.int64)]


def rest_days(
    random: np.random.Generator, grid: TimeGrid, lowest: float = 0.35
) -> tuple[Array, NDArray[np.bool_]]:
    """A factor for each step's day, and which days are spent like a weekend. [length] each.

    Working days differ a little, Saturdays lie between them and Sundays, whose factor is from
    `lowest` to 0.95, or above 1 where people come to rest. Longer steps than a day get ones.
    """
    if not grid.has_weekdays:
        return np.ones(grid.length), np.zeros(grid.length, np.bool_)
    weekdays = 1 + random.normal(0.0, 0.02, 7)
    sunday = random.uniform(lowest, 0.95) if random.random() < 0.85 else random.uniform(1.1, 1.8)
    weekdays[6] = sunday
    weekdays[5] = 1 + (sunday - 1) * random.uniform(0.4, 1.1)
    weekdays[4] *= random.uniform(0.9, 1.1)
    days, resting = grid.weekday, grid.is_weekend
    if random.random() < 0.7:
        holiday = is_holiday(random, grid)
        days, resting = np.where(holiday, 6, days), resting | holiday
    return weekdays[days], resting


def yearly(random: np.random.Generator, grid: TimeGrid) -> Array:
    """A smooth yearly season of unit size: winter or summer peak, or both. [length]."""
    angle = 2 * np.pi * (grid.year_fraction - random.normal(0.04, 0.03))
    return one_of(random, -1.0, 1.0) * np.cos(angle) + random.uniform(0.0, 0.8) * np.cos(2 * angle)


def load(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Electricity, heat or water use: never zero; morning and evening peaks, flatter weekends."""
    factor, resting = rest_days(random, grid, lowest=0.7)
    if grid.has_hours:  # consumption does not jump at midnight
        factor = moving_average(factor, round(0.25 / grid.days_per_step))
    path = factor * (1 + random.uniform(0.05, 0.3) * yearly(random, grid))
    if grid.has_hours:
        morning, evening = random.normal(8.5, 1.0), random.normal(18.5, 1.2)
        width = random.uniform(1.5, 4.0)
        working = random.uniform(0.3, 1) * bump(grid.hour, morning, width) + random.uniform(
            0.3, 1
        ) * bump(grid.hour, evening, random.uniform(1.5, 4.0))
        free = random.uniform(0.3, 0.9) * bump(
            grid.hour, morning + 2, width + 1.5
        ) + random.uniform(0.3, 1) * bump(grid.hour, evening, 3.5)
        path = path * (random.uniform(0.3, 2.0) + np.where(resting, free, working))
    weather = random.uniform(0.01, 0.1) * of_day(random, grid, random.uniform(0.5, 0.9))
    drift = random.uniform(0.0, 0.15) * smooth_path(random, grid.length)
    noise = random.uniform(0.005, 0.06) * autoregression(random, grid.length, 0.8)
    return path * np.exp(weather + drift + noise)


def traffic(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Vehicles, riders or visits: rush hours on working days, one broad hump on others. [length].

    Nights are nearly empty; half of the series are whole counts.
    """
    factor, resting = rest_days(random, grid)
    path = factor * (1 + random.uniform(0.0, 0.3) * yearly(random, grid))
    if grid.has_hours:
        rush = random.uniform(0.2, 1) * bump(grid.hour, random.normal(8, 0.5), 1.3)
        rush += random.uniform(0.2, 1) * bump(grid.hour, random.normal(17.5, 0.7), 1.7)
        rush += random.uniform(0.1, 0.5) * bump(grid.hour, 13.0, 3.5)
        free = random.uniform(0.3, 1.0) * bump(grid.hour, random.normal(14.5, 1.5), 3.5)
        path = path * (np.where(resting, free, rush) + random.uniform(0.0, 0.08))
    path = path * np.exp(random.uniform(0.02, 0.2) * of_day(random, grid, 0.5))
    if random.random() < 0.3:
        path = path * np.exp(-np.maximum(0, smooth_path(random, grid.length, 6)))  # works, closures
    if random.random() < 0.5:
        rate = path * 10 ** random.uniform(1.0, 3.5)
        return random.poisson(np.minimum(rate, 1e6)).astype(np.float64)
    noise = 1 + random.uniform(0.02, 0.2) * heavy_tailed_noise(random, grid.length)
    return path * np.maximum(noise, 0.0)


def opening_hours(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Calls, tills and offices: exactly zero when closed, by hour and on rest days. [length]."""
    factor, resting = rest_days(random, grid)
    closed = resting if random.random() < 0.6 else resting & (factor == factor.min())
    path = factor * (1 + random.uniform(0.0, 0.3) * yearly(random, grid))
    if grid.has_hours:
        opens = random.uniform(6.0, 11.0)
        closes = opens + random.uniform(5.0, 13.0)
        closed = closed | (grid.hour < opens) | (grid.hour >= min(closes, 24.0))
        path = path * (0.6 + bump(grid.hour, random.uniform(opens, closes), 3.0))
    path = path * np.exp(random.uniform(0.02, 0.25) * of_day(random, grid, 0.6))
    path = path * (1 + random.uniform(0.02, 0.2) * random.standard_normal(grid.length))
    if grid.has_weekdays:
        path = np.where(closed, 0.0, path)
    return np.maximum(path, 0.0)


def solar(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Photovoltaic output: the sun's height at a random latitude times clouds. [length].

    sin(height) = sin(lat) sin(decl) + cos(lat) cos(decl) cos(hour angle) (Spencer 1971); exactly
    zero at night. Steps of a day and longer have the sum over the day.
    """
    latitude = np.radians(random.uniform(-45, 58))
    declination = -TILT * np.cos(2 * np.pi * (grid.year_fraction + 10 / 365.25))
    across = np.cos(latitude) * np.cos(declination)
    along = np.sin(latitude) * np.sin(declination)
    if grid.has_hours:
        noon = random.normal(12.2, 0.5)
        light = np.maximum(along + across * np.cos((grid.hour - noon) * (np.pi / 12)), 0.0)
        light = light ** random.uniform(1.0, 1.4)
    else:
        sunset = np.arccos(np.clip(-along / across, -1, 1))
        light = np.maximum(sunset * along + across * np.sin(sunset), 0.0)
    cloudiness = random.uniform(0.3, 2.0) * of_day(random, grid, random.uniform(0.2, 0.7))
    if grid.has_hours:
        cloudiness = cloudiness + random.uniform(0.1, 1.0) * autoregression(
            random, grid.length, 0.85
        )
    clear = 1 / (1 + np.exp(cloudiness - random.uniform(0.0, 2.0)))
    power: Array = light * clear
    if random.random() < 0.2:
        power = np.minimum(power, np.quantile(power, 0.97))  # the inverter's limit
    return power


def weather(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Temperature, pressure or wind power: yearly and daily waves plus persistent noise. [length].

    Wind power is a bounded function of it: zero in a calm, flat at the rated power.
    """
    fronts = of_day(random, grid, random.uniform(0.6, 0.9))
    path = random.uniform(0.0, 3.0) * -np.cos(2 * np.pi * (grid.year_fraction - 0.06)) + fronts
    if grid.has_hours:
        smooth = 1 - 10 ** random.uniform(-2.3, -1.0)
        path = path - fronts + autoregression(random, grid.length, smooth)
        daily = np.cos((grid.hour - 15.0) * (np.pi / 12))
        path = path + random.uniform(0.2, 1.5) * daily * np.exp(0.4 * of_day(random, grid, 0.5))
    path = path + random.uniform(0.02, 0.2) * random.standard_normal(grid.length)
    if random.random() < 0.25:
        unit: Array = (path - path.mean()) / (path.std() + 1e-9)
        return np.clip((unit + random.uniform(0.0, 1.0)) / 2, 0.0, 1.0) ** 3
    return path


def events_by_calendar(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Retail by the year: a December peak, paydays, a smooth season and growth. [length]."""
    factor, _ = rest_days(random, grid)
    year = grid.year_fraction
    advent = np.exp(-(((year - random.uniform(0.93, 0.97)) / random.uniform(0.01, 0.04)) ** 2))
    logs = random.uniform(0.1, 1.0) * advent + random.uniform(0.05, 0.3) * harmonic_profile(
        random, year, 3, 1.0
    )
    if grid.days_per_step <= 1.5 and random.random() < 0.5:
        month = grid.times.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        payday = (grid.days - month - int(one_of(random, 0, 14, 24, 27))) % 30
        logs = logs + random.uniform(0.1, 0.4) * (payday < 3)
    logs = logs + random.uniform(-0.5, 1.0) * np.linspace(0, 1, grid.length)
    logs = logs + random.uniform(0.02, 0.2) * of_day(random, grid, 0.6)
    path = factor * np.exp(logs)
    if grid.has_hours:
        path = path * (0.05 + bump(grid.hour, random.uniform(11, 20), random.uniform(2, 4)))
    noise = 1 + random.uniform(0.01, 0.15) * heavy_tailed_noise(random, grid.length)
    return path * np.maximum(noise, 0.0)


KINDS = (load, traffic, opening_hours, solar, weather, events_by_calendar)


def activity(random: np.random.Generator, grid: TimeGrid) -> Array:
    """One of the kinds of this module, at even odds. [length]."""
    return KINDS[int(random.integers(len(KINDS)))](random, grid)
