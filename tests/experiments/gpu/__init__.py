"""All that a rare GPU is wanted for, in one command under one budget of time.

    python -m tests.experiments.gpu --minutes 25 --out DIR [--device cuda] [--setting full]

`plan` lists the steps and what each costs, `runner` runs them in order as processes of their own,
`summary` says what came out. What the steps do stands in `steps/`.
"""
