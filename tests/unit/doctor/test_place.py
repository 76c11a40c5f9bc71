"""Where a machine is, by its files."""

import pytest

from ckptd.doctor.findings import WARNS
from ckptd.doctor.place import ALIBABA, AWS, AZURE, GCP, find_place, place_findings

DMI = "/sys/class/dmi/id"
BRIDGED = {
    "/sys/class/net/lo/ifindex": "1\n", "/sys/class/net/lo/iflink": "1\n",
    "/sys/class/net/eth0/ifindex": "2\n", "/sys/class/net/eth0/iflink": "7\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "cloud"),
    [
        ({"sys_vendor": "Amazon EC2\n"}, AWS),
        ({"sys_vendor": "Xen\n", "bios_version": "4.11.amazon\n"}, AWS),
        ({"sys_vendor": "Google\n", "product_name": "Google Compute Engine\n"}, GCP),
        (
            {
                "sys_vendor": "Microsoft Corporation\n",
                "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n",
            },
            AZURE,
        ),
        (
            {"sys_vendor": "Microsoft Corporation\n", "chassis_asset_tag": "none\n"},
            "",
        ),  # Hyper-V of one's own
        ({"sys_vendor": "Alibaba Cloud\n"}, ALIBABA),
        ({"sys_vendor": "Dell Inc.\n", "product_name": "PowerEdge\n"}, ""),
        ({}, ""),
    ],
)
def test_clouds_by_their_firmware(machine, files, cloud):
    assert find_place(machine({f"{DMI}/{name}": text for name, text in files.items()})).cloud == cloud


@pytest.mark.parametrize(
    ("files", "env", "word"),
    [
        ({"/.dockerenv": ""}, {}, ".dockerenv"),
        ({"/run/.containerenv": ""}, {}, ".containerenv"),
        ({}, {"container": "lxc"}, "container=lxc"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "KUBERNETES_SERVICE_HOST"),
        ({"/proc/1/cgroup": "0::/kubepods.slice/kubepods-pod1.slice/cri-1.scope\n"}, {}, "kubepods"),
        ({"/proc/1/cgroup": "0::/init.scope\n"}, {}, ""),
    ],
)
def test_containers_and_how_that_is_told(machine, files, env, word):
    said = find_place(machine(files, **env)).container
    assert word in said
    assert bool(said) == bool(word)


def test_a_bridged_container_on_aws_is_told_of_the_hop_limit(machine):
    files = {
        f"{DMI}/sys_vendor": "Amazon EC2",
        f"{DMI}/board_asset_tag": "i-0abc",
        "/.dockerenv": "",
        **BRIDGED,
    }
    (found,) = place_findings(find_place(machine(files)))
    assert found.what == "metadata hop limit"
    assert found.severity == WARNS
    assert found.mend.startswith("aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2")
    assert found.mend.endswith("--instance-id i-0abc")


@pytest.mark.parametrize("missing", ["/.dockerenv", "/sys/class/net/eth0/iflink", f"{DMI}/sys_vendor"])
def test_elsewhere_the_hop_limit_is_in_nobodys_way(machine, missing):
    files = {f"{DMI}/sys_vendor": "Amazon EC2", "/.dockerenv": "", **BRIDGED}
    if missing.endswith("iflink"):
        files[missing] = "2\n"  # the machine's own interface
    else:
        del files[missing]
    assert place_findings(find_place(machine(files))) == []


def test_a_shell_as_process_1_of_a_container_keeps_the_signal(machine):
    (found,) = place_findings(find_place(machine({"/.dockerenv": "", "/proc/1/comm": "bash\n"})))
    assert "bash" in found.text
    assert found.mend == "exec ckptd run -- CMD"


def test_a_shell_as_process_1_is_nothing_outside_of_one(machine):
    assert place_findings(find_place(machine({"/proc/1/comm": "bash\n"}))) == []
