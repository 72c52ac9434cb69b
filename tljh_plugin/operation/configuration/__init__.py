"""What `littlest-binder config` knows: every key, what a file says of it, and what is wrong with that.

Comes in: a file of settings (TLJH's `config.yaml`, a desktop's, any other JupyterHub's). Goes out:
`Finding`s, values with where they come from, explanations. Nothing is changed, and neither hub, service nor
TLJH is needed.
"""
