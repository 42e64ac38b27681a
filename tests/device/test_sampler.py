# Sampling on a grid: periods, late wakes, sensors that fail or take long, a clock that is put right.
from device.wearable import CountingSensor, Time

from sealband import sleep
from sealband.batch import Batch
from sealband.sampler import Every, Sampler

T = 60_000_000


class Bench:
    def __init__(self, *sensors, **options):
        self.time = Time()
        self.batch = Batch()
        self.failed = []
        self.seen = []
        self.sampler = Sampler(
            list(sensors),
            self.batch,
            lambda *sample: self.seen.append(sample),
            lambda index, told: self.failed.append(index),
        )

    # a wake each time that the sampler asks for one; sensors are stepped side by side
    def run(self, now, seconds):
        end = now + seconds
        while now < end:
            for task in self.sampler.due(now):
                for _ in task:
                    pass
            now += max(1, self.sampler.wait(now))
        return now


def test_times_are_multiples_of_the_period():
    bench = Bench(Every(10, CountingSensor(1, 70)), Every(60, CountingSensor(3, 3300)), Every(7, CountingSensor(4, 0)))
    bench.sampler.start(T + 3)
    bench.run(T + 3, 200)
    assert [t for record, t, _ in bench.seen if record == 1][:3] == [T + 10, T + 20, T + 30]
    assert [t for record, t, _ in bench.seen if record == 3][:2] == [T + 60, T + 120]
    assert all(t % 7 == 0 for record, t, _ in bench.seen if record == 4)
    assert len(bench.batch) == len(bench.seen)


def test_a_late_wake_takes_the_newest_time_once_and_leaves_a_gap():
    bench = Bench(Every(10, CountingSensor(1, 70)))
    bench.sampler.start(T)
    for now in (T + 10, T + 13, T + 49, T + 49, T + 50):
        for task in bench.sampler.due(now):
            list(task)
    assert [t for _, t, _ in bench.seen] == [T + 10, T + 40, T + 50]


def test_a_sensor_that_measures_is_not_asked_again_and_not_waited_for():
    slow, fast = CountingSensor(1, 70, (0,), 9500, Time()), CountingSensor(4, 3900)
    bench = Bench(Every(10, slow), Every(5, fast))
    bench.sampler.start(T)
    tasks = bench.sampler.due(T + 10)
    assert len(tasks) == 2 and bench.sampler.pending(T + 11) and not bench.sampler.pending(T + 10)
    assert next(tasks[0]) == 250
    list(tasks[1])
    assert [record for record, _, _ in bench.seen] == [4]
    assert len(bench.sampler.due(T + 15)) == 1
    list(tasks[0])
    assert bench.seen[-1][:2] == (1, T + 10)


def test_failures_are_counted_by_sensor_and_the_sensor_is_stopped():
    broken, good = CountingSensor(1, 70), CountingSensor(4, 3900)
    broken.fails = True
    bench = Bench(Every(10, broken), Every(10, good))
    bench.sampler.start(T)
    bench.run(T, 101)
    assert bench.sampler.errors == 10 and set(bench.failed) == {0}
    assert not broken.running and not good.running
    assert len(bench.seen) == 10
    broken.fails = False
    bench.run(T + 101, 20)
    assert [record for record, _, _ in bench.seen][-4:] == [1, 4, 1, 4]


class Odd(CountingSensor):
    answers = ((None,), (1, 2), (1.5,), (True,), (1 << 40,), ("x",), 7, (42,))

    def measure(self):
        self.reads += 1
        return self.answers[self.reads - 1]
        yield 0


def test_answers_that_are_no_measurement_never_reach_the_batch():
    bench = Bench(Every(10, Odd(1, 0)))
    bench.sampler.start(T)
    bench.run(T, 81)
    assert [value for _, _, value in bench.seen] == [42]
    # None is "not good enough" and no error; the others are
    assert bench.sampler.errors == 6, bench.sampler.errors


class Stuck(CountingSensor):
    def start(self):
        raise OSError(110)

    def stop(self):
        raise OSError(110)


def test_a_bus_that_is_stuck_even_for_stop_is_only_counted():
    bench = Bench(Every(10, Stuck(1, 0)), Every(10, CountingSensor(4, 3900)))
    bench.sampler.start(T)
    bench.run(T, 31)
    assert len(bench.seen) == 3 and bench.sampler.errors == 6


def test_the_clock_is_put_right_while_a_sensor_measures():
    slow = CountingSensor(1, 70, (0,), 9500, Time())
    bench = Bench(Every(10, slow))
    bench.sampler.start(0)
    task = bench.sampler.due(20)[0]
    next(task)
    bench.sampler.shift(T + 3, T + 24)
    list(task)
    assert bench.seen == [(1, T + 23, 70)]
    assert bench.sampler.due(T + 30) and not bench.sampler.due(T + 30)


def test_a_clock_that_is_turned_back_does_not_stop_sampling():
    bench = Bench(Every(10, CountingSensor(1, 70)))
    bench.sampler.start(T)
    bench.run(T, 31)
    bench.sampler.shift(-86400, T + 31 - 86400)
    bench.run(T + 31 - 86400, 30)
    assert len(bench.seen) == 6


def test_state_keeps_the_schedule_over_deep_sleep():
    bench = Bench(Every(60, CountingSensor(1, 70)))
    bench.sampler.start(T)
    bench.run(T, 61)
    state = sleep.sampled(bench.sampler)
    other = Bench(Every(60, CountingSensor(1, 70)))
    other.sampler.start(T + 119)
    sleep.resample(other.sampler, state)
    assert other.sampler.wait(T + 119) == 1
    assert not other.sampler.due(T + 119) and other.sampler.due(T + 120)


def test_periods_that_make_no_sense_are_refused_at_declaration():
    for period in (0, -1, 0.5, 86401, "10", None, True):
        try:
            Every(period, CountingSensor(1, 70))
        except ValueError:
            continue
        raise AssertionError("accepted %r" % period)
