import platform

from wmh.learning.devices import keep_freed_memory


def test_the_c_library_takes_the_settings_where_it_has_them():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
