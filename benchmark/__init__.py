"""The measurement: is a generator's distribution that of the data?"""
