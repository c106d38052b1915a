"""The whole appliance on real hosts: from bare Debian to a verified site, and through what goes wrong."""
