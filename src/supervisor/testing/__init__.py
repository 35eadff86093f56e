"""What tests of plugins and hosts need: virtual time, fakes and contract suites."""
