//! Where registries of Amazon ECR are. The rule of the CRD and the operator's own check are made of one table: what is
//! decided by it is where a token goes.

/// A partition of AWS: regions with hosts and accounts of their own.
struct Partition {
    /// What its regions begin with; empty for the commercial one, which has all others.
    regions: &'static str,
    /// The domain of its registries and APIs, as in `123456789012.dkr.ecr.REGION.amazonaws.com`.
    domain: &'static str,
    /// The domain of its registries for IPv4 and IPv6, as in `123456789012.dkr-ecr.REGION.on.aws`.
    dual_stack: Option<&'static str>,
}

/// The commercial one (also of the US Government), China, the European Sovereign Cloud, and those without Internet.
const PARTITIONS: [Partition; 7] = [
    Partition { regions: "", domain: "amazonaws.com", dual_stack: Some("on.aws") },
    Partition { regions: "cn-", domain: "amazonaws.com.cn", dual_stack: Some("on.amazonwebservices.com.cn") },
    Partition { regions: "eusc-", domain: "amazonaws.eu", dual_stack: Some("on.amazonwebservices.eu") },
    Partition { regions: "us-iso-", domain: "c2s.ic.gov", dual_stack: None },
    Partition { regions: "us-isob-", domain: "sc2s.sgov.gov", dual_stack: None },
    Partition { regions: "eu-isoe-", domain: "cloud.adc-e.uk", dual_stack: None },
    Partition { regions: "us-isof-", domain: "csp.hci.ic.gov", dual_stack: None },
];
/// The names in front of a region, with the name of each for IPv4 and IPv6.
const NAMES: [(&str, &str); 2] = [("dkr.ecr", "dkr-ecr"), ("dkr.ecr-fips", "dkr-ecr-fips")];
const PUBLIC: &str = "public.ecr.aws";

/// Which registries a host of Amazon ECR stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EcrHost<'a> {
    /// Amazon ECR Public.
    Public,
    /// The private registries of an account, or of all, in a region.
    Private {
        /// As in `eu-west-1`.
        region: &'a str,
        /// The domain of the partition's APIs, as in `amazonaws.com`.
        domain: &'static str,
    },
}

impl<'a> EcrHost<'a> {
    /// Reads a host; `None` if it is none of Amazon ECR.
    pub fn parse(host: &'a str) -> Option<Self> {
        if host == PUBLIC {
            return Some(Self::Public);
        }
        let (account, rest) = host.split_once('.')?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let after = |name: &str| rest.strip_prefix(name)?.strip_prefix('.')?.split_once('.');
        let found = NAMES.iter().find_map(|(single, dual)| {
            let single = after(single).map(|rest| (rest, false));
            single.or_else(|| after(dual).map(|rest| (rest, true)))
        });
        let ((region, host_domain), dual) = found?;
        let partition =
            PARTITIONS.iter().find(|partition| partition.registries(dual) == Some(host_domain))?;
        let fits = (is_account || account == "*") && partition.has(region);
        fits.then_some(Self::Private { region, domain: partition.domain })
    }
}

impl Partition {
    fn registries(&self, dual: bool) -> Option<&'static str> {
        if dual { self.dual_stack } else { Some(self.domain) }
    }

    fn has(&self, region: &str) -> bool {
        let mut others = PARTITIONS.iter().filter(|partition| !partition.regions.is_empty());
        let is_commercial = self.regions.is_empty();
        region.strip_prefix(self.regions).is_some_and(|rest| is_numbered(rest, is_commercial))
            && (!is_commercial || !others.any(|other| region.starts_with(other.regions)))
    }
}

/// Whether a region ends as all do, in places and a number: `west-1`, and with its continent `eu-west-1`.
fn is_numbered(region: &str, with_continent: bool) -> bool {
    let Some((places, number)) = region.rsplit_once('-') else { return false };
    let fits = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase());
    let continent = places.split_once('-').is_some_and(|(continent, _)| letters(continent));
    places.split('-').all(fits)
        && (continent || !with_continent)
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The rule of the CRD for a registry with `source.ecr`, which takes what [`EcrHost::parse`] takes.
pub(crate) fn rule() -> String {
    let escaped = |text: &str| text.replace('.', "[.]");
    let regions = |partition: &Partition| match partition.regions {
        "" => "[a-z]+(-[a-z0-9]+)+-[0-9]+".to_owned(),
        begin => format!("{begin}[a-z0-9]+(-[a-z0-9]+)*-[0-9]+"),
    };
    let hosts: Vec<_> = [false, true]
        .into_iter()
        .map(|dual| {
            let names: Vec<_> =
                NAMES.iter().map(|(single, name)| escaped(if dual { name } else { single })).collect();
            let tails = PARTITIONS.iter().filter_map(|partition| {
                Some(format!("{}[.]{}", regions(partition), escaped(partition.registries(dual)?)))
            });
            format!("({})[.]({})", names.join("|"), tails.collect::<Vec<_>>().join("|"))
        })
        .collect();
    let (commercial, others): (Vec<_>, Vec<_>) =
        PARTITIONS.iter().partition(|partition| partition.regions.is_empty());
    let domains = commercial.iter().flat_map(|partition| [Some(partition.domain), partition.dual_stack]);
    let domains: Vec<_> = domains.flatten().map(escaped).collect();
    let foreign: Vec<_> = others.iter().map(|partition| partition.regions).collect();
    let (hosts, foreign, domains, public) =
        (hosts.join("|"), foreign.join("|"), domains.join("|"), escaped(PUBLIC));
    format!(
        "!has(self.source.ecr) || (self.server.matches('^(([0-9]{{12}}|[*])[.]({hosts})|{public})(/|$)') && \
         !self.server.matches('^[^/]*[.]({foreign})[a-z0-9-]+[.]({domains})(/|$)'))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_tells_region_and_partition() {
        for (host, region, domain) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", "amazonaws.com"),
            ("*.dkr.ecr.us-east-1.amazonaws.com", "us-east-1", "amazonaws.com"),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", "amazonaws.com"),
            ("123456789012.dkr-ecr.eu-central-1.on.aws", "eu-central-1", "amazonaws.com"),
            ("123456789012.dkr-ecr-fips.us-east-2.on.aws", "us-east-2", "amazonaws.com"),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", "amazonaws.com.cn"),
            ("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1", "amazonaws.com.cn"),
            ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", "amazonaws.eu"),
            ("123456789012.dkr-ecr.eusc-de-east-1.on.amazonwebservices.eu", "eusc-de-east-1", "amazonaws.eu"),
            ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", "c2s.ic.gov"),
            ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1", "sc2s.sgov.gov"),
            ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1", "cloud.adc-e.uk"),
            ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1", "csp.hci.ic.gov"),
        ] {
            assert_eq!(EcrHost::parse(host), Some(EcrHost::Private { region, domain }), "{host}");
        }
        assert_eq!(EcrHost::parse("public.ecr.aws"), Some(EcrHost::Public));
    }

    #[test]
    fn a_host_of_two_partitions_is_none() {
        for host in [
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.eu",
            "123456789012.dkr.ecr.us-iso-east-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.on.aws",
            "123456789012.dkr-ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr-ecr.us-iso-east-1.c2s.ic.gov",
        ] {
            assert_eq!(EcrHost::parse(host), None, "{host}");
        }
    }

    #[test]
    fn a_region_ends_in_a_hyphen_and_a_number() {
        let parse = |region: &str, domain: &str| {
            EcrHost::parse(&format!("123456789012.dkr.ecr.{region}.{domain}")).is_some()
        };
        for region in
            ["eu-west1", "eu-west", "eu-west-", "eu-west-1a", "eu-1", "-west-1", "eu--1", "euwest-1"]
        {
            assert!(!parse(region, "amazonaws.com"), "{region}");
        }
        for region in ["eu-west-1", "ap-southeast-5", "us-gov-west-1", "eu-west-12"] {
            assert!(parse(region, "amazonaws.com"), "{region}");
        }
        for (region, domain) in [("cn-north1", "amazonaws.com.cn"), ("us-iso-1", "c2s.ic.gov")] {
            assert!(!parse(region, domain), "{region}");
        }
    }
}
